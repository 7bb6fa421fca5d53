package shadow_test

import (
	"context"
	"iter"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
	"github.com/portcullis-csi/portcullis/policies/shadow"
)

// shopGrant lets every account of payments have what lies below shop.
const shopGrant = `
- {id: G-2, owner: team-shop, expiry: 2126-12-31, namespaces: [payments], serviceAccounts: ["*"], provider: local, secrets: ["local://node/shop/x"]}
`

const noHostPID = `# METADATA
# schemas:
#   - input: schema.input
package portcullis.checks.host

deny contains finding if {
	input.pod.hostPID
	finding := {"id": "PR-300", "severity": "high", "message": "the pod sees the processes of the node", "remediation": "remove it"}
}
`

const monitored = "monitor: {until: 2026-02-01, rules: [\"*\"]}\n"

// hostCheck adds a rule against hostPID.
func hostCheck() policiestest.Option { return policiestest.WithCheck("host", noHostPID) }

// serial numbers a bundle.
func serial(n string) policiestest.Option {
	return policiestest.WithFile(".manifest", `{"revision":"r`+n+`","roots":["portcullis"],"rego_version":1,"metadata":{"contract":"portcullis/v1","serial":`+n+`}}`)
}

// policy is a bundle and its engine.
type policy struct {
	bundle policies.Bundle
	engine *policies.Engine
}

func load(t testing.TB, grants string, options ...policiestest.Option) policy {
	t.Helper()
	b, err := bundle.LoadFS(policiestest.Files(grants, options...))
	if err != nil {
		t.Fatal(err)
	}
	return policy{b, policiestest.Engine(t, grants, options...)}
}

// gate decides as a daemon does, with a Shadow beside it.
type gate struct {
	*shadow.Shadow
	active, candidate atomic.Pointer[policies.Engine]
	failure           error
	live              [][2]string
	now               time.Time
}

func newGate(t testing.TB, active, candidate policy) *gate {
	t.Helper()
	g := &gate{now: time.Unix(0, policiestest.Now)}
	s, err := shadow.New(shadow.Config{
		Active: g.active.Load, Candidate: g.candidate.Load, Failure: func() error { return g.failure },
		Live:   func() iter.Seq2[string, string] { return g.volumes },
		Logger: slog.New(slog.DiscardHandler), Clock: func() time.Time { return g.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Hurry()
	g.Shadow = s
	g.load(&g.active, active)
	g.load(&g.candidate, candidate)
	return g
}

func (g *gate) volumes(yield func(string, string) bool) {
	for _, v := range g.live {
		if !yield(v[0], v[1]) {
			return
		}
	}
}

func (g *gate) load(side *atomic.Pointer[policies.Engine], p policy) {
	side.Store(p.engine)
	g.Loaded(p.bundle)
}

// decide decides by the bundle in force, and has it observed.
func (g *gate) decide(t testing.TB, mutators ...func(*policies.Input)) policies.Decision {
	t.Helper()
	d := g.active.Load().Decide(t.Context(), policiestest.Input(mutators...))
	g.Observe(d)
	return d
}

func pod(uid, name string) func(*policies.Input) {
	return func(in *policies.Input) {
		in.Subject.PodUID, in.Subject.PodName = uid, name
		in.Pod.Owner = nil
	}
}

func namespaceOf(name string) func(*policies.Input) {
	return func(in *policies.Input) { in.Subject.Namespace = name }
}

func hostPID(in *policies.Input) { in.Pod.HostPID = true }

func asksShop(in *policies.Input) { in.Requests[0].Secret = "local://node/shop/x" }

// nothing decides nothing, in no time.
func nothing(context.Context, *policies.Engine, policies.Input) policies.Decision {
	return policies.Decision{}
}

// flipping is a gate without a bundle in force, whose candidate allows everything:
// every decision flips, without the time that evaluations take.
func flipping(t testing.TB) *gate {
	t.Helper()
	g := newGate(t, policy{}, load(t, policiestest.Grants, serial("2")))
	allow := policiestest.Allow(t)
	g.DecideBy(func(context.Context, *policies.Engine, policies.Input) policies.Decision { return allow })
	return g
}

// flip observes and compares one decision.
func (g *gate) flip(t testing.TB, mutators ...func(*policies.Input)) {
	t.Helper()
	g.decide(t, mutators...)
	g.Drain(t.Context())
}
