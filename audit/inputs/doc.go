// Package inputs keeps what decisions were made from: the canonical inputs, and
// the bundles that decided. With them a decision in the log can be made again,
// and the next bundle can be tried on what was asked of the last.
//
// It promises that keeping never waits, neither for the disk nor for a lock
// that is held over a write, and never writes to the disk before the log has;
// that each thing is kept once; that the whole stays within its bytes, what was
// last of use longest ago going first; that what it gives back is what was
// kept, or an error; and that no file of it, however damaged, ends the process
// or keeps it from starting.
//
// It does not promise that anything is still there: not after a crash, not
// under load, not for ever. It is a hint beside the log, and no evidence: what
// is, is the digest in the event. So it is a row of plain files, written
// without fsync: a database that maps its file into memory panics on a damaged
// page, in goroutines where nobody can recover.
//
// Inputs name pods, labels, images and secrets by their ids. They hold no value
// of a secret and no token, since policy sees none. They never leave the node
// but by whoever reads the directory as root.
//
// The caller opens one [Store] a directory, on the node's disk, gives it to the
// recorder, and closes it at the end. Whoever only reads, beside a running
// plugin or on a copy, takes [Read].
package inputs
