// Package shadow lets a candidate bundle decide beside the one in force, and says
// where the two differ.
//
// It promises that nothing waits for the candidate and nothing comes of it: Observe
// takes a decision that was already made, in bounded room, and never blocks; one
// goroutine asks the candidate about the same input, a fifth of the time at most; a
// candidate that is slow, fails or panics is an outcome of its own. What there was
// no room for is counted and shown. Differences are those of policies/diff, word
// for word. A report has bounds that no author of pods can use up for others: lists
// and queue give one namespace a quarter, and what is not listed is counted.
// A change of either bundle begins a new period; of the old one the last report stays.
//
// It does not judge whether a difference is wanted, and records no event: nothing
// that a candidate says is in force. That all volumes were compared is for the reader
// to check: the report says how many there are and how many were.
//
// A caller makes a Shadow with New, tells it of each bundle that is loaded with
// Loaded, hands decisions to Observe and lets Run work.
package shadow
