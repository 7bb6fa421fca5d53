package audit_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/audittest"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// state is what a receiver tells events apart by.
type state struct {
	Type    audit.Type
	Outcome audit.Outcome
	Stage   audit.Stage
}

func stateOf(e audit.Event) state { return state{e.Type, e.Outcome, e.Stage} }

// makers are all exported constructors of events, by name, with every argument
// that changes the state: decisions of each verdict at each gate that this
// version has, and each reason.
func makers(t *testing.T) map[string][]func() audit.Event {
	t.Helper()
	troubles := slices.DeleteFunc(audit.Reasons(), func(r audit.Reason) bool {
		return r == audit.ReasonRecovered || r == audit.ReasonOrphaned || r == audit.ReasonPolicyDenied
	})
	of := func(reasons []audit.Reason, f func(audit.Reason) audit.Event) (all []func() audit.Event) {
		for _, r := range reasons {
			all = append(all, func() audit.Event { return f(r) })
		}
		return all
	}
	one := func(f func() audit.Event) []func() audit.Event { return []func() audit.Event{f} }
	allow, rotate := policiestest.Allow(t), policiestest.Allow(t, rotating)
	id := audit.Decided(allow).ID
	in := openIntent(t, audit.Decided(allow))
	return map[string][]func() audit.Event{
		"Decided":        decisionsAtEveryGate(t),
		"Rejected":       of(troubles, func(r audit.Reason) audit.Event { return audit.Rejected(claim(), r) }),
		"ReviewRejected": of(troubles, func(r audit.Reason) audit.Event { return audit.ReviewRejected(audit.Review{Claim: claim()}, r) }),
		"ReviewDeferred": one(func() audit.Event {
			return audit.ReviewDeferred(audit.Review{Claim: claim()}, audit.ReasonClassNotFound)
		}),
		"ClassRejected": of(append(troubles, audit.ReasonPolicyDenied), func(r audit.Reason) audit.Event {
			return audit.ClassRejected(audit.ClassReview{Namespace: "payments", Name: "db"}, r)
		}),
		"Finished":       of(append(troubles, ""), func(r audit.Reason) audit.Event { return audit.Finished(id, allow, nil, r) }),
		"Ended":          {func() audit.Event { return audit.Ended(in, true) }, func() audit.Event { return audit.Ended(in, false) }},
		"Rotated":        one(func() audit.Event { return audit.Rotated(id, rotate, files(), audit.Rotation{}) }),
		"RotationFailed": of(troubles, func(r audit.Reason) audit.Event { return audit.RotationFailed(id, rotate, r) }),
		"Unmounted":      of(append(troubles, "", audit.ReasonOrphaned), func(r audit.Reason) audit.Event { return audit.Unmounted(claim(), r) }),
		"ForeignMount": of([]audit.Reason{audit.Reason(audit.ForeignKept), audit.Reason(audit.ForeignUnmounted)}, func(r audit.Reason) audit.Event {
			return audit.ForeignMount(claim(), audit.ForeignAction(r))
		}),
		"IntegrityFailure": of(troubles, func(r audit.Reason) audit.Event { return audit.IntegrityFailure(claim(), r) }),
		"Revoked": of(append(troubles, ""), func(r audit.Reason) audit.Event {
			return audit.Revoked(id, rotate, audit.ReasonPolicyDenied, r)
		}),
		"RevokedEarlier":   one(func() audit.Event { return audit.RevokedEarlier(claim(), "", audit.ReasonTTLExpired) }),
		"TTLMissed":        one(func() audit.Event { return audit.TTLMissed(id, rotate) }),
		"MassRevocation":   one(func() audit.Event { return audit.MassRevocation(6, noon(), noon()) }),
		"DriverStarted":    one(audit.DriverStarted),
		"DriverStopped":    of([]audit.Reason{audit.ReasonSignal, audit.ReasonFatalError}, audit.DriverStopped),
		"LogTampered":      one(audit.LogTampered),
		"PolicyLoaded":     one(func() audit.Event { return audit.PolicyLoaded(audit.Bundle{Digest: digest('b')}) }),
		"PolicyLoadFailed": of(troubles, func(r audit.Reason) audit.Event { return audit.PolicyLoadFailed(audit.Bundle{Reason: r}) }),
		"LogFound":         one(func() audit.Event { return audit.LogFound(audit.Opening{Epoch: 1}) }),
		"LogBoundary":      boundaries(),
	}
}

func boundaries() (all []func() audit.Event) {
	key := "test/nodes/node-1+00000000+" + strings.Repeat("A", 44)
	for _, kind := range []audit.Type{audit.TypeLogOpened, audit.TypeLogClosed, audit.TypeKeyRotated} {
		all = append(all, func() audit.Event {
			return audit.LogBoundary(kind, audit.LogState{Root: strings.Repeat("0", 64), Key: key, PreviousKey: key})
		})
	}
	return all
}

// decisionsAtEveryGate leaves out sync, of which this version has no gate that
// records.
func decisionsAtEveryGate(t *testing.T) (all []func() audit.Event) {
	t.Helper()
	for _, phase := range []policies.Phase{policies.PhaseAdmission, policies.PhaseMount, policies.PhaseRotate} {
		at := func(in *policies.Input) { in.Phase = phase }
		for _, d := range []policies.Decision{policiestest.Allow(t, at), policiestest.Deny(t, at), policiestest.Undecided(t, at)} {
			all = append(all, func() audit.Event { return audit.Decided(d) })
		}
	}
	return all
}

// constructors are the exported functions of the package that return an event
// and nothing else, and the types that any function gives a new event.
func constructors(t *testing.T) (names []string, types map[string]bool) {
	t.Helper()
	types = map[string]bool{}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if name := entry.Name(); !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), entry.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Recv == nil && n.Name.IsExported() && returnsEvent(n.Type) {
					names = append(names, n.Name.Name)
				}
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.Ident); ok && f.Name == "newEvent" {
					if arg, ok := n.Args[0].(*ast.Ident); ok && ast.IsExported(arg.Name) {
						types[arg.Name] = true
					}
				}
			}
			return true
		})
	}
	slices.Sort(names)
	return names, types
}

func returnsEvent(f *ast.FuncType) bool {
	if f.Results == nil || len(f.Results.List) != 1 {
		return false
	}
	result, ok := f.Results.List[0].Type.(*ast.Ident)
	return ok && result.Name == "Event"
}

// made returns every state that events of this version have: those of the
// constructors, and of the counts that the recorder writes when they come again.
func made(t *testing.T) map[state]string {
	t.Helper()
	found := map[state]string{}
	for name, list := range makers(t) {
		for _, f := range list {
			at := &clock{now: noon()}
			r, l := audittest.New(t, func(c *audit.Config) { c.Clock = at.time })
			for range 2 {
				if err := r.Record(t.Context(), f()); err != nil {
					t.Fatalf("Record(%s) = %v, want no error", name, err)
				}
				at.add(time.Second)
			}
			for _, e := range audittest.Closed(t, r, l) {
				found[stateOf(e)] = name
			}
		}
	}
	found[stateOf(countedSample(t))], found[stateOf(gapSample(t))] = "counted", "gap"
	return found
}

// TestEveryStateHasASample keeps the documentation whole: whatever this version
// makes has a sample, and there is no sample of what it cannot make.
func TestEveryStateHasASample(t *testing.T) {
	have := map[state]bool{}
	for _, s := range samples(t) {
		have[stateOf(s.event)] = true
	}
	possible := made(t)
	for s, by := range possible {
		if !have[s] {
			t.Errorf("no sample has type %q, outcome %q and stage %q, which %s makes", s.Type, s.Outcome, s.Stage, by)
		}
	}
	for s := range have {
		if _, ok := possible[s]; !ok {
			t.Errorf("a sample has type %q, outcome %q and stage %q, which nothing makes", s.Type, s.Outcome, s.Stage)
		}
	}
	if len(possible) < 30 {
		t.Errorf("made() has %d states, want at least 30: the search is broken", len(possible))
	}
}

func TestEveryConstructorIsKnown(t *testing.T) {
	names, types := constructors(t)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(makers(t))), names); diff != "" {
		t.Errorf("makers() are not the exported constructors (-makers +found):\n%s", diff)
	}
	madeTypes := map[string]bool{}
	for s := range made(t) {
		madeTypes[string(s.Type)] = true
	}
	values := typeConstants(t)
	for name := range types {
		if !madeTypes[values[name]] {
			t.Errorf("a function makes events of %s, %q, which no maker does", name, values[name])
		}
	}
	if len(types) < 10 {
		t.Errorf("found %d types that are made, want at least 10: the search is broken", len(types))
	}
}

// typeConstants are the values of the constants of code.go by their names.
func typeConstants(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "code.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && len(v.Values) == 1 {
			if text, ok := v.Values[0].(*ast.BasicLit); ok {
				values[v.Names[0].Name] = strings.Trim(text.Value, `"`)
			}
		}
		return true
	})
	return values
}
