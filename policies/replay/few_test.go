//go:build race

package replay_test

// decisions are how many are made again: the race detector takes some twenty
// times as long, and sees no more in more of them.
const decisions = 300
