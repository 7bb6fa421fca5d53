//go:build race

package audit_test

// floodOf is how many denials a flood has, and podsOf how many pods a loud
// namespace: the race detector takes some twenty times as long, and sees no more
// in more of them.
const floodOf, podsOf = 2_000, 300
