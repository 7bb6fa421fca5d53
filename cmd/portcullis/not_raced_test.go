//go:build !race

package main_test

// underRace says whether the race detector watches.
const underRace = false
