//go:build !race

package driver_test

// owedAtMost is how many events a recorder keeps in memory while the disk is full: the
// default. The budgets hold through rounds of more volumes than there is room for.
const owedAtMost, budgetRounds = 4096, 6
