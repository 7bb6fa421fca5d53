// Package explain says why a volume gets its secrets or not, and what to change.
//
// It promises the decision that the gates would make of the same facts, by the
// same engine, and beside it what the decision leaves out: which grant serves
// each secret, which grants nearly do and what each lacks, and the smallest grant
// that would do, as YAML for whoever reviews grants. That grant is advice: it
// lacks an owner, so that no bundle takes it as it stands.
//
// It decides nothing itself. Texts of an Answer come from manifests and bundles:
// whoever prints them escapes what a terminal could take for a command.
package explain
