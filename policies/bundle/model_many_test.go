//go:build !race

// One caller, and hundreds of steps one after the other: nothing for the race detector,
// which takes some ten times as long.

package bundle_test

import "testing"

// TestP10Sequences: whatever happens in whatever order, what decides was verified,
// has not ended by any time that is certain, and reaches the floor, which never
// falls; the last good bundle stays; and a break-glass bundle is one once, for four
// hours at most.
func TestP10Sequences(t *testing.T) {
	sequences, steps := 15, 40
	if testing.Short() {
		sequences = 8
	}
	decided, emergencies := map[string]bool{}, 0
	for seed := range sequences {
		m := newModel(t, uint64(seed))
		_ = m.start()
		for range steps {
			m.check(m.do())
			if m.force != "" {
				decided[m.force] = true
			}
		}
		emergencies += len(m.began)
		m.must(m.store.Close())
	}
	if len(decided) < sequences || emergencies == 0 {
		t.Errorf("%d bundles decided, %d of them in emergencies: the sequences try nothing", len(decided), emergencies)
	}
}
