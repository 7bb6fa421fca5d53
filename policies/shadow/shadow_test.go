package shadow_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
	"github.com/portcullis-csi/portcullis/policies/shadow"
)

func TestConfigIsChecked(t *testing.T) {
	none := func() *policies.Engine { return nil }
	whole := shadow.Config{Active: none, Candidate: none, Logger: slog.New(slog.DiscardHandler)}
	if _, err := shadow.New(whole); err != nil {
		t.Fatalf("New() = %v, want no error", err)
	}
	for name, without := range map[string]func(*shadow.Config){
		"Active":    func(c *shadow.Config) { c.Active = nil },
		"Candidate": func(c *shadow.Config) { c.Candidate = nil },
		"Logger":    func(c *shadow.Config) { c.Logger = nil },
	} {
		c := whole
		without(&c)
		if _, err := shadow.New(c); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("New() without %s = %v, want an error that names it", name, err)
		}
	}
}

func TestNilShadowTakesEverything(t *testing.T) {
	var s *shadow.Shadow
	s.Observe(policiestest.Allow(t))
	s.Loaded(policies.Bundle{Digest: "x"})
	if err := errors.Join(s.Trouble(), s.Register(nil)); err != nil {
		t.Errorf("a nil Shadow returns %v, want no error", err)
	}
}

// Each direction of a flip is told from the others, with rules and owners.
func TestReportTellsWhatTheCandidateWouldDo(t *testing.T) {
	g := newGate(t, load(t, policiestest.Grants, serial("1")), load(t, policiestest.Grants+shopGrant, serial("2"), hostCheck()))
	g.decide(t)                                               // same
	g.decide(t, pod("u-1", "a"), hostPID)                     // breaks
	g.decide(t, pod("u-1", "a"), hostPID)                     // breaks again: one volume
	g.decide(t, pod("u-2", "b"), asksShop)                    // opens
	g.decide(t, pod("u-3", "c"), asksShop, hostPID)           // denied by both, for another reason
	g.decide(t, func(in *policies.Input) { in.Cluster = "" }) // out of bounds for both
	g.Drain(t.Context())
	r := g.Report()

	want := map[shadow.Kind]int64{shadow.Opens: 1, shadow.Breaks: 2, shadow.Monitors: 0, shadow.Undecided: 0}
	if diff := cmp.Diff(want, r.Flips); diff != "" {
		t.Errorf("Flips differ (-want +got):\n%s", diff)
	}
	if r.Compared != 6 || r.Changes != 1 || r.Undecided != 1 || r.Total() != 3 || r.Volumes != 4 || r.Workloads != 4 || r.AtLeast {
		t.Errorf("%d compared, %d changes, %d undecided, %d flips, %d volumes, %d workloads, at least: %v; want 6, 1, 1, 3, 4, 4, false",
			r.Compared, r.Changes, r.Undecided, r.Total(), r.Volumes, r.Workloads, r.AtLeast)
	}
	if diff := cmp.Diff(map[string]int64{"allow->allow": 1, "allow->deny": 2, "deny->allow": 1, "deny->deny": 1, "error->error": 1}, r.Matrix); diff != "" {
		t.Errorf("Matrix differs (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]shadow.Count{{Name: "PR-300", Decisions: 2}, {Name: "PR-001", Decisions: 1}}, r.Rules); diff != "" {
		t.Errorf("Rules differ (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]shadow.Count{{Name: "team-payments", Decisions: 2}, {Name: "team-shop", Decisions: 1}}, r.Owners); diff != "" {
		t.Errorf("Owners differ (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]shadow.NamespaceCount{{Namespace: "payments", Flips: map[shadow.Kind]int64{shadow.Opens: 1, shadow.Breaks: 2}}}, r.Namespaces); diff != "" {
		t.Errorf("Namespaces differ (-want +got):\n%s", diff)
	}
	var lines []string
	for _, f := range r.Flipped {
		lines = append(lines, fmt.Sprintf("%s %s %s->%s %d %d %v%v%v", f.Kind, f.Workload.Name, f.From, f.To, f.Count, f.Volumes, f.RulesAdded, f.RulesGone, f.Owners))
	}
	if diff := cmp.Diff([]string{"opens b deny->allow 1 1 [][PR-001][team-shop]", "breaks a allow->deny 2 1 [PR-300][][team-payments]"}, lines); diff != "" {
		t.Errorf("Flipped differs (-want +got):\n%s", diff)
	}
	if r.Active.Serial != 1 || r.Candidate.Serial != 2 || r.Candidate.Revision != "r2" || r.Problem != "" || g.Trouble() != nil {
		t.Errorf("sides are %+v and %+v, problem %q, trouble %v; want serials 1 and 2 and no problem", r.Active, r.Candidate, r.Problem, g.Trouble())
	}
	if len(r.Flipped) > 0 && (r.Flipped[1].Example == "" || r.Flipped[1].Findings[0].Message != "the pod sees the processes of the node") {
		t.Errorf("the broken one is explained by %+v, want the finding in words and the id of a decision", r.Flipped[1])
	}
}

func TestMonitorModeIsADirectionOfItsOwn(t *testing.T) {
	enforcing, monitoring := load(t, "", serial("1")), load(t, "", serial("2"), policiestest.WithConfig(monitored))
	for _, tt := range []struct {
		from, to policy
		want     shadow.Kind
		effects  string
	}{
		{monitoring, enforcing, shadow.Breaks, "allowed_monitored->deny"},
		{enforcing, monitoring, shadow.Opens, "deny->allowed_monitored"},
		{load(t, policiestest.Grants, serial("1")), monitoring, shadow.Monitors, "allow->allowed_monitored"},
		{monitoring, load(t, policiestest.Grants, serial("3")), shadow.Monitors, "allowed_monitored->allow"},
	} {
		g := newGate(t, tt.from, tt.to)
		g.decide(t)
		g.Drain(t.Context())
		if r := g.Report(); r.Flips[tt.want] != 1 || r.Total() != 1 || r.Matrix[tt.effects] != 1 {
			t.Errorf("flips %v, matrix %v; want one that %s, %s", r.Flips, r.Matrix, tt.want, tt.effects)
		}
	}
}

func TestNothingIsComparedWithoutASecondBundle(t *testing.T) {
	only := load(t, policiestest.Grants, serial("5"))
	lower := load(t, "", serial("5"))
	for name, tt := range map[string]struct {
		candidate policy
		failure   error
		problem   string
		trouble   bool
		compared  int64
	}{
		"none":          {policy{}, nil, "no candidate bundle is loaded", true, 0},
		"refused":       {policy{}, errors.New("not signed"), "no candidate bundle is loaded: not signed", true, 0},
		"in force":      {only, nil, "the candidate is the bundle in force", false, 0},
		"not above":     {lower, nil, "the candidate's serial 5 is not above the active bundle's 5", true, 1},
		"source broken": {load(t, "", serial("6")), errors.New("gone"), "its source is broken: gone", true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, only, tt.candidate)
			g.failure = tt.failure
			g.decide(t)
			g.Drain(t.Context())
			r := g.Report()
			if !strings.Contains(r.Problem, tt.problem) || r.Compared != tt.compared {
				t.Errorf("problem %q with %d compared, want %q and %d", r.Problem, r.Compared, tt.problem, tt.compared)
			}
			if err := g.Trouble(); (err != nil) != tt.trouble {
				t.Errorf("Trouble() = %v, want one: %v", err, tt.trouble)
			}
		})
	}
}

// A change of either side begins anew, and what the bundles before said is kept once.
func TestAChangeOfBundlesBeginsAPeriod(t *testing.T) {
	first, second, third := load(t, policiestest.Grants, serial("1")), load(t, "", serial("2")), load(t, policiestest.Grants, serial("3"))
	g := newGate(t, first, second)
	late := g.decide(t)
	g.Drain(t.Context())
	g.now = g.now.Add(time.Minute)
	g.load(&g.candidate, third)
	g.decide(t)
	g.Drain(t.Context())
	r := g.Report()
	if r.Total() != 0 || r.Compared != 1 || r.Candidate.Serial != 3 || !r.Since.Equal(g.now) {
		t.Errorf("the new period has %d flips of %d since %v, want none of 1 since the change", r.Total(), r.Compared, r.Since)
	}
	if r.Previous == nil || r.Previous.Flips[shadow.Breaks] != 1 || r.Previous.Candidate.Serial != 2 || r.Previous.Previous != nil {
		t.Fatalf("the period before is %+v, want one flip by serial 2", r.Previous)
	}
	// The active bundle changes while a decision of the old one waits.
	g.Observe(late)
	g.load(&g.active, second)
	g.Drain(t.Context())
	r = g.Report()
	if r.Compared != 0 || r.Dropped.Superseded != 1 || r.Active.Serial != 2 {
		t.Errorf("%d compared and %d superseded beside serial %d, want 0, 1 and 2", r.Compared, r.Dropped.Superseded, r.Active.Serial)
	}
	if r.Previous == nil || r.Previous.Candidate.Serial != 3 {
		t.Errorf("the period before is %+v, want that of serial 3", r.Previous)
	}
	// A change that nothing was compared in does not take the last report away.
	g.load(&g.active, first)
	if r = g.Report(); r.Previous == nil || r.Previous.Candidate.Serial != 3 {
		t.Errorf("the period before is %+v, want that of serial 3 still", r.Previous)
	}
}

func TestLiveVolumesSayWhatIsMissing(t *testing.T) {
	g := newGate(t, load(t, policiestest.Grants, serial("1")), load(t, "", serial("2")))
	for i := range 30 {
		g.live = append(g.live, [2]string{fmt.Sprint("u-", i), "secrets"})
	}
	g.decide(t, pod("u-7", "a"))
	g.Drain(t.Context())
	l := g.Report().Live
	if l.Volumes != 30 || l.Compared != 1 || len(l.Missing) != 20 || slices.Contains(l.Missing, "u-7/secrets") || !slices.Contains(l.Missing, "u-8/secrets") {
		t.Errorf("live is %+v, want 1 of 30 compared and 20 of the others named", l)
	}
	for _, v := range g.live {
		g.decide(t, pod(v[0], "a"))
	}
	g.Drain(t.Context())
	if l := g.Report().Live; l.Compared != 30 || len(l.Missing) != 0 {
		t.Errorf("live is %+v, want 30 of 30 compared", l)
	}
}

// What a candidate does to itself is an outcome, and the next decision is compared.
// What is compared comes from whoever writes pods: a comparison that panics costs
// that one, and neither the process nor the next.
func TestAComparisonThatPanicsEndsNothing(t *testing.T) {
	active, candidate := load(t, policiestest.Grants, serial("1")), load(t, "", serial("2"))
	var armed atomic.Bool
	s, err := shadow.New(shadow.Config{
		Active: func() *policies.Engine { return active.engine }, Candidate: func() *policies.Engine { return candidate.engine },
		Logger: slog.New(slog.DiscardHandler),
		Clock: func() time.Time {
			if armed.CompareAndSwap(true, false) {
				panic("of the comparison")
			}
			return time.Unix(0, policiestest.Now)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Hurry()
	s.Loaded(active.bundle)
	armed.Store(true) // the clock is read next in the first comparison
	for range 2 {
		s.Observe(active.engine.Decide(t.Context(), policiestest.Input()))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	for deadline := time.Now().Add(20 * time.Second); armed.Load() || s.Report().Compared == 0; {
		if time.Now().After(deadline) {
			t.Fatal("nothing was compared after the panic, or there was none")
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	running.Wait()
	if r := s.Report(); r.Compared != 1 || r.Total() != 1 || r.Queued != 0 {
		t.Errorf("%d compared, %d flips, %d queued, want the one that did not panic", r.Compared, r.Total(), r.Queued)
	}
}

func TestACandidateThatPanicsOrHangsIsAnOutcome(t *testing.T) {
	g := newGate(t, load(t, policiestest.Grants, serial("1")), load(t, policiestest.Grants, serial("2")))
	calls := 0
	g.DecideBy(func(ctx context.Context, e *policies.Engine, in policies.Input) policies.Decision {
		if calls++; calls == 1 {
			panic("of the candidate")
		}
		if calls == 2 {
			expired, cancel := context.WithCancel(ctx)
			cancel()
			return e.Decide(expired, in) // as after its budget
		}
		return e.Decide(ctx, in)
	})
	for range 3 {
		g.decide(t)
	}
	g.Drain(t.Context())
	r := g.Report()
	if r.Compared != 3 || r.Panics != 1 || r.Flips[shadow.Undecided] != 2 || r.Matrix["allow->error"] != 2 || r.Matrix["allow->allow"] != 1 {
		t.Errorf("%d compared, %d panics, flips %v, matrix %v; want 3, 1, two undecided", r.Compared, r.Panics, r.Flips, r.Matrix)
	}
	var reasons []string
	for _, f := range r.Flipped {
		reasons = append(reasons, f.Undecided)
	}
	slices.Sort(reasons)
	if diff := cmp.Diff([]string{"EvaluationPanicked", "EvaluationTimeout"}, reasons); diff != "" {
		t.Errorf("the reasons differ (-want +got):\n%s", diff)
	}
}

// However slow the candidate is, deciding goes on and Run leaves four fifths of
// the time to others.
func TestASlowCandidateIsPacedAndHoldsNobodyUp(t *testing.T) {
	active, candidate := load(t, policiestest.Grants, serial("1")), load(t, "", serial("2"))
	d := active.engine.Decide(t.Context(), policiestest.Input())
	synctest.Test(t, func(t *testing.T) {
		s, err := shadow.New(shadow.Config{
			Active: func() *policies.Engine { return active.engine }, Candidate: func() *policies.Engine { return candidate.engine },
			Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		var busy time.Duration
		s.DecideBy(func(context.Context, *policies.Engine, policies.Input) policies.Decision {
			time.Sleep(time.Second)
			busy += time.Second
			return policies.Decision{}
		})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { s.Run(ctx) })
		begin := time.Now()
		for range 200 {
			s.Observe(d)
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("200 times Observe took %v beside a candidate that takes seconds, want no time", took)
		}
		time.Sleep(100*time.Second - time.Nanosecond)
		synctest.Wait()
		if busy != 20*time.Second {
			t.Errorf("the candidate was busy %v of 100 s, want 20 s", busy)
		}
		cancel()
		running.Wait()
		if left := s.Report(); left.Queued+left.Compared != 200 {
			t.Errorf("%d compared and %d queued, want 200 in all: the one that was stopped is no outcome", left.Compared, left.Queued)
		}
	})
}

func TestRunEndsWithItsContextAndCountsNothingThen(t *testing.T) {
	g := newGate(t, load(t, policiestest.Grants, serial("1")), load(t, "", serial("2")))
	ctx, cancel := context.WithCancel(t.Context())
	g.DecideBy(func(ctx context.Context, e *policies.Engine, in policies.Input) policies.Decision {
		cancel()
		return e.Decide(ctx, in) // a timeout, as it looks
	})
	g.decide(t)
	g.Run(ctx)
	if r := g.Report(); r.Compared != 0 || r.Total() != 0 {
		t.Errorf("%d compared with %d flips, want none: the process ended", r.Compared, r.Total())
	}
}

func TestObserveFromManyGoroutinesLosesNothing(t *testing.T) {
	g := newGate(t, load(t, policiestest.Grants, serial("1")), load(t, "", serial("2")))
	other := load(t, "", serial("3"), hostCheck())
	ctx, cancel := context.WithCancel(t.Context())
	var running, deciding sync.WaitGroup
	running.Go(func() { g.Run(ctx) })
	running.Go(func() {
		for ctx.Err() == nil {
			if text, err := g.JSON(); err != nil || !json.Valid(text) {
				t.Errorf("JSON() = %q, %v; want JSON", text, err)
			}
		}
	})
	const goroutines, each = 8, 30
	for n := range goroutines {
		deciding.Go(func() {
			for i := range each {
				g.decide(t, pod(fmt.Sprint("u-", n, "-", i), "a"))
				if n == 0 && i == each/2 {
					for g.Report().Compared == 0 {
						time.Sleep(time.Millisecond)
					}
					g.load(&g.candidate, other)
				}
			}
		})
	}
	deciding.Wait()
	for g.Queued() > 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	running.Wait()
	r := g.Report()
	if r.Previous == nil {
		t.Fatal("there is no period of the first candidate")
	}
	// The last one may be under way when Run ends.
	if got := r.Compared + r.Previous.Compared; got < goroutines*each-1 || got > goroutines*each {
		t.Errorf("%d and %d compared, want %d in all", r.Compared, r.Previous.Compared, goroutines*each)
	}
}

// A period is as old as its bundles, whenever somebody looks at it; and bundles
// that are long gone are forgotten.
func TestAPeriodBeginsWhenItsBundleIsLoaded(t *testing.T) {
	g := newGate(t, load(t, policiestest.Grants, serial("1")), load(t, "", serial("2")))
	loaded := g.now
	g.now = g.now.Add(time.Hour)
	if r := g.Report(); !r.Since.Equal(loaded) || !r.Until.Equal(g.now) {
		t.Errorf("the period is from %v to %v, want from %v to %v", r.Since, r.Until, loaded, g.now)
	}
	first := load(t, policiestest.Grants+shopGrant, serial("3"))
	for n := range 4 {
		g.load(&g.candidate, load(t, "", serial(fmt.Sprint(n+4))))
	}
	g.load(&g.candidate, first)
	g.decide(t, asksShop)
	g.Drain(t.Context())
	if r := g.Report(); len(r.Owners) != 1 || r.Owners[0].Name != "team-shop" {
		t.Errorf("owners are %v, want those of the bundle that was loaded last", r.Owners)
	}
}
