// Package attack holds hostile tests against the built programs: pods,
// providers, disks and crashes that try to get a secret out, a partial volume
// in, or the node stuck. They need root and minutes, so they are compiled with
// the build tag attack and run by make attack; all of it is in test files.
//
// It promises that nothing stays on the machine: the tests run in a mount
// namespace of their own, and the programs that they start die with them. It
// does not promise to be harmless to what else runs there: it fills memory and
// processors.
package attack
