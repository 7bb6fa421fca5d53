// Package admin lets root look at the audit log of a node plugin that runs, and at
// what a candidate policy would have decided there:
// HTTP/1.1 over a unix socket, and the client for it. bbolt locks its files, so
// nobody else can read them meanwhile.
//
// It promises that only peers that Config.Peer accepts are heard, that whatever
// they send is bounded and refused in words, that a reader which does not read
// is cut after half a minute, and that an answer which broke off is never
// taken for a whole one: every stream ends in a trailer that says so. Nobody who
// is served here can make the log wait: what is behind the interface Log must not
// block its writer while it is read.
//
// It does not protect the log from root, and does not encrypt. What it hands
// out is not proof by itself: a snapshot is verified like any other copy.
//
// The caller makes the socket where only its own user can reach it, and hands
// over the listener with a check of peers.
package admin
