//go:build race

package audit_test

// floodOf is how many denials a flood has: the race detector takes some twenty
// times as long, and sees no more in more of them.
const floodOf = 5_000
