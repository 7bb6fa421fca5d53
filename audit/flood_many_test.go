//go:build !race

package audit_test

// floodOf is how many denials a flood has.
const floodOf = 50_000
