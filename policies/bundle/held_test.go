package bundle_test

import (
	"context"
	"sync"
	"testing"

	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
	"github.com/portcullis-csi/portcullis/policies/bundle/store"
)

// gate holds up whoever comes to one step, once it is armed.
type gate struct {
	mu      sync.Mutex
	step    string
	arrived chan struct{}
	open    chan struct{}
}

func (g *gate) arm(step string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.step, g.arrived, g.open = step, make(chan struct{}), make(chan struct{})
}

func (g *gate) pass(step string) {
	g.mu.Lock()
	if g.step != step {
		g.mu.Unlock()
		return
	}
	g.step = "" // once
	arrived, open := g.arrived, g.open
	g.mu.Unlock()
	close(arrived)
	<-open
}

// gated is what a load asks, with a gate before each answer.
type gated struct {
	*registry
	gate  *gate
	steps map[string]bool // of the store
}

func (g *gated) Resolve(ctx context.Context) (string, error) {
	g.gate.pass("resolve")
	return g.registry.Resolve(ctx)
}

func (g *gated) Fetch(ctx context.Context, version string) (signature.Artifact, error) {
	g.gate.pass("fetch")
	return g.registry.Fetch(ctx, version)
}

func (g *gated) Read(context.Context) (store.Mark, error) {
	g.gate.pass("floor")
	return store.Mark{Serial: 1}, nil
}

func (g *gated) raise(context.Context, store.Mark) error {
	g.gate.pass("raise")
	return nil
}

func (g *gated) step(name string) error {
	g.steps[name] = true
	g.gate.pass("store " + name)
	return nil
}

// TestP10NoDecisionWaitsForALoad: whatever step of a load hangs, a registry, the API
// server or the disk, the bundle in force decides meanwhile. A decision takes the
// engine by one read of a pointer and shares no lock with a load: were there one,
// this test would not end.
func TestP10NoDecisionWaitsForALoad(t *testing.T) {
	r := newRig(t)
	g := &gated{registry: r.registry, gate: &gate{}, steps: map[string]bool{}}
	r.fetcher, r.floor, r.raise, r.step = g, g, g.raise, g.step
	serial := int64(5)
	g.put(r.signed(serial, true))
	r.must(r.start())
	steps := []string{"resolve", "fetch", "floor", "raise"}
	for name := range g.steps {
		steps = append(steps, "store "+name)
	}
	if len(steps) < 8 {
		t.Fatalf("%q are the steps of a load, want those of the store among them", steps)
	}
	for _, step := range steps {
		g.gate.arm(step)
		g.put(r.signed(serial+1, true))
		done := make(chan error, 1)
		go func() { done <- r.reload() }()
		select {
		case <-g.gate.arrived:
		case err := <-done:
			t.Fatalf("Reload() = %v without step %s", err, step)
		}
		for range 50 {
			// Some steps come after the swap.
			if got := r.serial(); got != serial && got != serial+1 {
				t.Fatalf("serial %d decides while %s hangs, want %d or the next", got, step, serial)
			}
		}
		close(g.gate.open)
		r.must(<-done)
		serial++
		r.want(serial, "after "+step)
	}
}
