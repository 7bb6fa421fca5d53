//go:build !race

package audit_test

// floodOf is how many denials a flood has, and podsOf how many pods a loud
// namespace.
const floodOf, podsOf = 50_000, 3_000
