// Package server serves the reviews of the webhook over TLS, within bounds.
//
// It promises that whoever reaches the port can cost it no more than a number of
// connections (the caller's listener), of reviews at a time, and of bytes of each;
// that what is over a bound is refused at once and in words; that a panic refuses one
// review and says nothing of it to the other side; and that a process that is told to
// stop goes on answering until no endpoint of its Service leads to it any more.
//
// An answer other than 200 is for the API server a webhook that cannot be called:
// its failurePolicy decides, so nothing that is refused here is let through where
// that is Fail.
//
// TLS is 1.3 alone: every API server that can be installed speaks it. Handlers are
// controller-runtime's, with its metrics; its server is not used, since it has no
// bound on connections, bodies or time.
package server
