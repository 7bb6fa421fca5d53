//go:build race

package driver_test

// owedAtMost and budgetRounds are smaller here: the race detector takes some ten times as
// long, and sees no more in more of them.
const owedAtMost, budgetRounds = 256, 2
