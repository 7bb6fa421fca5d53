// Package server serves the reviews of the webhook over TLS, within bounds.
//
// It promises that whoever reaches the port can cost it no more than a number of
// connections (the caller's listener), of reviews at a time, of bytes, and of memory
// that these become; that turns go round by address, so that a flood, and bodies that
// never come, keep no API server out; that with [Callers] only those are answered who
// show a certificate of one of the names; that what is over a bound is refused at once
// and in words, without a line in the log; that a panic refuses one
// review and says nothing of it to the other side; and that a process that is told to
// stop goes on answering until no endpoint of its Service leads to it any more.
//
// An answer other than 200 is for the API server a webhook that cannot be called:
// its failurePolicy decides, so nothing that is refused here is let through where
// that is Fail.
//
// It does not promise that a review comes from an API server where there are no
// Callers, nor that it holds against more addresses than connections.
//
// TLS is 1.3 alone: every API server that can be installed speaks it, and HTTP is
// 1.1, as API servers call webhooks. Handlers are
// controller-runtime's, with its metrics; its server is not used, since it has no
// bound on connections, bodies or time.
package server
