// Package check reads a policy bundle as a careful reviewer would, for its author:
// what the engine would refuse, what Rego takes for right and is not, and what a
// decision costs.
//
// It promises findings with a place and a remedy: all of them, not the first; that
// a bundle without an error among them compiles; and that a warning is about
// something that is there. Lints look at the syntax tree with every name resolved
// and stay silent where they cannot see. Costs are counted, in evaluations
// and allocations, against the library alone in the same process, so that a busy
// machine changes nothing.
//
// It does not promise that a bundle without findings means what its author meant:
// tests do that (package testrun). It puts nothing in force, and changes files
// only in Fix.
//
// A caller opens the author's directory or tarball with Open, and calls Run.
package check
