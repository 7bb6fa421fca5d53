// Package tail finds the last events of a log that somebody wants to see, and
// words them for people: one event a line, in columns.
//
// It promises that nothing in a log reaches the terminal as anything but
// printable ASCII, and that a filter which cannot match is refused. What it shows
// was not verified: for that there is portcullis audit verify.
//
// The caller gives it a Source: the admin socket of a plugin that runs, or a
// directory that nobody writes to.
package tail
