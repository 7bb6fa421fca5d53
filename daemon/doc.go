// Package daemon is what the node plugin and the webhook have in common: how a
// process logs, opens its audit log and tells of itself over HTTP and over the
// admin socket.
//
// It promises that what one of the two programs does at its start, while it runs
// and at its end, the other does alike: a damaged log stops grants and not the
// process; probes are answered from the first moment; no endpoint holds more than
// [MaxGuests] connections; the events of a process begin with its start and end
// with its stop.
//
// It decides nothing, and only programs import it. Its caller makes the state
// directory private ([StateDirectory]) before it opens an [Audit], and closes that
// last.
package daemon
