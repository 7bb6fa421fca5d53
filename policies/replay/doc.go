// Package replay makes recorded decisions again, and holds the answers against
// the records: whoever doubts a log, a bundle or an engine can see that the same
// facts and the same policy give the same decision.
//
// It promises that a decision counts as the same only if verdict, id, rules,
// grants and waivers are, and the input is the one whose digest was recorded;
// and that what cannot be made again is said and counted by its cause: an input
// or a bundle that is not kept any more, or a contract library of another
// version.
//
// It does not promise that a record is true. Whether a log was altered is what
// audit verify says; a record that was made up with its input replays as well.
//
// The caller gives the records in their order, which keeps the engines few, and
// a source of bundles.
package replay
