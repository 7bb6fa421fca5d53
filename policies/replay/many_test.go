//go:build !race

package replay_test

// decisions are how many are made again.
const decisions = 5001
