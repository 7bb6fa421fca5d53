package shadow_test

import (
	"context"
	"sync"
	"testing"

	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// BenchmarkDecide is what an observer costs whoever decides: with none, and with a
// Shadow whose candidate is asked at the same time.
func BenchmarkDecide(b *testing.B) {
	active, candidate := load(b, policiestest.Grants, serial("1")), load(b, "", serial("2"))
	in := policiestest.Input()
	b.Run("alone", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			active.engine.Decide(b.Context(), in)
		}
	})
	b.Run("observed", func(b *testing.B) {
		g := newGate(b, active, candidate)
		g.Pace()
		ctx, cancel := context.WithCancel(b.Context())
		var running sync.WaitGroup
		running.Go(func() { g.Run(ctx) })
		b.ReportAllocs()
		for b.Loop() {
			g.Observe(active.engine.Decide(b.Context(), in))
		}
		cancel()
		running.Wait()
	})
}

// BenchmarkObserve is the hot path's part alone, with a queue that takes and with
// one that is full.
func BenchmarkObserve(b *testing.B) {
	d := load(b, policiestest.Grants, serial("1")).engine.Decide(b.Context(), policiestest.Input())
	for name, drain := range map[string]bool{"taken": true, "full": false} {
		b.Run(name, func(b *testing.B) {
			g := newGate(b, load(b, policiestest.Grants, serial("1")), load(b, "", serial("2")))
			b.ReportAllocs()
			for b.Loop() {
				g.Observe(d)
				if drain {
					g.Drop()
				}
			}
		})
	}
}

// A decision must not wait for what is done with it: Observe takes a small part of
// the time that deciding does, whatever the candidate is doing.
func TestObserveCostsLittle(t *testing.T) {
	g := newGate(t, load(t, policiestest.Grants, serial("1")), load(t, "", serial("2")))
	d := g.active.Load().Decide(t.Context(), policiestest.Input())
	if allocs := testing.AllocsPerRun(100, func() { g.Observe(d); g.Drop() }); allocs > 2 {
		t.Errorf("Observe() makes %v allocations, want 2 at most", allocs)
	}
}
