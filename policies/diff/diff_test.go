package diff_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/diff"
	"github.com/portcullis-csi/portcullis/policies/explain"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

func side(t testing.TB, grants string, options ...policiestest.Option) diff.Side {
	t.Helper()
	b, err := bundle.LoadFS(policiestest.Files(grants, options...))
	if err != nil {
		t.Fatal(err)
	}
	contents, err := b.Contents()
	if err != nil {
		t.Fatal(err)
	}
	return diff.Side{Engine: policiestest.Engine(t, grants, options...), Grants: explain.NewGrants(contents)}
}

// of hands over inputs.
func of(inputs ...policies.Input) diff.Source {
	return func(_ context.Context, emit func(diff.Case) error) error {
		for i, in := range inputs {
			if err := emit(diff.Case{Input: in, Example: fmt.Sprintf("event-%d", i)}); err != nil {
				return err
			}
		}
		return nil
	}
}

func run(t testing.TB, c diff.Config, source diff.Source) diff.Report {
	t.Helper()
	r, err := diff.Run(t.Context(), c, source)
	if err != nil {
		t.Fatalf("Run() = %v, want no error", err)
	}
	return r
}

const (
	monitored = "monitor: {until: 2026-02-01, rules: [\"*\"]}\n"
	noHostPID = `# METADATA
# schemas:
#   - input: schema.input
package portcullis.checks.host

deny contains finding if {
	input.pod.hostPID
	finding := {"id": "PR-300", "severity": "high", "message": "hostPID", "remediation": "remove it"}
}
`
	warns = `# METADATA
# schemas:
#   - input: schema.input
package portcullis.checks.host

warn contains finding if {
	input.pod.hostPID
	finding := {"id": "PR-300", "severity": "high", "message": "hostPID"}
}
`
	breaks = `# METADATA
# schemas:
#   - input: schema.input
package portcullis.checks.host

deny contains finding if {
	input.pod.hostPID
	finding := {"id": "PR-300"}
}
`
)

func hostPID(in *policies.Input) { in.Pod.HostPID = true }

// Every way an effect can flip, with what makes the difference.
func TestFlips(t *testing.T) {
	grant := []explain.GrantRef{{ID: "G-1", Owner: "team-payments"}}
	none := []explain.GrantRef{}
	check := func(text string) policiestest.Option { return policiestest.WithCheck("host", text) }
	for name, test := range map[string]struct {
		before, after diff.Side
		want          diff.Change
	}{
		"grant removed": {side(t, policiestest.Grants), side(t, ""), diff.Change{
			From: "allow", To: "deny", RulesAdded: []string{"PR-001"}, GrantsGone: grant, Owners: []string{"team-payments"}}},
		"grant added": {side(t, ""), side(t, policiestest.Grants), diff.Change{
			From: "deny", To: "allow", RulesGone: []string{"PR-001"}, GrantsAdded: grant, Owners: []string{"team-payments"}}},
		"check added": {side(t, policiestest.Grants), side(t, policiestest.Grants, check(noHostPID)), diff.Change{
			From: "allow", To: "deny", RulesAdded: []string{"PR-300"}, Owners: []string{"team-payments"}}},
		"monitor ends": {side(t, "", policiestest.WithConfig(monitored)), side(t, ""), diff.Change{
			From: "allowed_monitored", To: "deny", RulesAdded: []string{"PR-001"}, Owners: []string{}}},
		"monitor begins in place of a denial": {side(t, ""), side(t, "", policiestest.WithConfig(monitored)), diff.Change{
			From: "deny", To: "allowed_monitored", RulesGone: []string{"PR-001"}, Owners: []string{}}},
		"monitor begins": {side(t, policiestest.Grants), side(t, "", policiestest.WithConfig(monitored)), diff.Change{
			From: "allow", To: "allowed_monitored", RulesAdded: []string{"PR-001"}, GrantsGone: grant, Owners: []string{"team-payments"}}},
		"check breaks": {side(t, policiestest.Grants), side(t, policiestest.Grants, check(breaks)), diff.Change{
			From: "allow", To: "error", Undecided: "MalformedDecision", GrantsGone: grant, Owners: []string{"team-payments"}}},
		"check mended": {side(t, policiestest.Grants, check(breaks)), side(t, policiestest.Grants), diff.Change{
			From: "error", To: "allow", Undecided: "MalformedDecision", GrantsAdded: grant, Owners: []string{"team-payments"}}},
	} {
		r := run(t, diff.Config{Old: test.before, New: test.after}, of(policiestest.Input(hostPID)))
		if r.Cases != 1 || r.Flips != 1 || len(r.Flipped) != 1 || len(r.Changed) != 0 {
			t.Errorf("%s: Run() = %+v, want one flip", name, r)
			continue
		}
		want := test.want
		want.Workload = diff.Workload{Namespace: "payments", Kind: "StatefulSet", Name: "api"}
		want.ServiceAccount, want.Volume, want.Class, want.Count, want.Example = "api", "secrets", "db", 1, "event-0"
		for _, refs := range []*[]explain.GrantRef{&want.GrantsAdded, &want.GrantsGone} {
			if *refs == nil {
				*refs = none
			}
		}
		ignored := cmpopts.IgnoreFields(diff.Change{}, "Findings")
		if diff := cmp.Diff(want, r.Flipped[0], cmpopts.IgnoreUnexported(diff.Change{}), ignored, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: the flip differs (-want +got):\n%s", name, diff)
		}
		if r.Matrix[string(want.From)+"->"+string(want.To)] != 1 {
			t.Errorf("%s: Matrix = %v, want one from %s to %s", name, r.Matrix, want.From, want.To)
		}
		if got := len(r.Flipped[0].Findings); got != len(want.RulesAdded) {
			t.Errorf("%s: %d findings in words, want one for each of %q", name, got, want.RulesAdded)
		}
		for _, f := range r.Flipped[0].Findings {
			if f.Message == "" {
				t.Errorf("%s: a finding has no words: %+v", name, f)
			}
		}
	}
}

// What changes without a flip is counted, and listed with Verbose.
func TestChangesThatFlipNothing(t *testing.T) {
	check := func(text string) policiestest.Option { return policiestest.WithCheck("host", text) }
	before := side(t, policiestest.Grants)
	for name, test := range map[string]struct {
		after   diff.Side
		changed bool
		as      func(diff.Change) bool
	}{
		"nothing":     {before, false, nil},
		"revision":    {side(t, policiestest.Grants, policiestest.WithFile(".manifest", strings.Replace(policiestest.Manifest, "test", "next", 1))), false, nil},
		"a warning":   {side(t, policiestest.Grants, check(warns)), true, func(c diff.Change) bool { return cmp.Equal(c.WarningsAdded, []string{"PR-300"}) }},
		"obligations": {side(t, policiestest.Grants, policiestest.WithConfig("obligations: {ttl_seconds: 60}\n")), true, func(c diff.Change) bool { return c.Obligations != nil && c.Obligations.To.TTLSeconds == 60 }},
		"the grant's id": {side(t, strings.Replace(policiestest.Grants, "G-1", "G-9", 1)), true, func(c diff.Change) bool {
			return c.GrantsAdded[0].ID == "G-9" && c.GrantsGone[0].ID == "G-1"
		}},
	} {
		for _, verbose := range []bool{false, true} {
			r := run(t, diff.Config{Old: before, New: test.after, Verbose: verbose}, of(policiestest.Input(hostPID)))
			listed := len(r.Changed) == 1
			if r.Flips != 0 || len(r.Flipped) != 0 || (r.Changes == 1) != test.changed || listed != (test.changed && verbose) {
				t.Errorf("%s, verbose %t: Run() = %+v, want change %t and no flip", name, verbose, r, test.changed)
			}
			if listed && !test.as(r.Changed[0]) {
				t.Errorf("%s: Changed = %+v, want what changed", name, r.Changed[0])
			}
		}
	}
}

func TestUndecidedByBothIsCounted(t *testing.T) {
	s := side(t, policiestest.Grants)
	r := run(t, diff.Config{Old: s, New: s}, of(policiestest.Input(), policiestest.Input(func(in *policies.Input) { in.Cluster = "" })))
	if r.Undecided != 1 || r.Flips != 0 || r.Cases != 2 {
		t.Errorf("Run() = %+v, want one undecided and no flip", r)
	}
}

// mixed are inputs of many workloads, most of which several pods share.
func mixed(n int) []policies.Input {
	inputs := make([]policies.Input, 0, n)
	for i := range n {
		inputs = append(inputs, policiestest.Input(func(in *policies.Input) {
			in.Pod.Owner.Name = fmt.Sprintf("app-%d", i%7)
			in.Subject.PodName = fmt.Sprintf("app-%d-%d", i%7, i)
			in.Pod.HostPID = i%3 == 0
			if i%5 == 0 {
				in.Requests[0].Secret = "local://node/shop/x"
			}
		}))
	}
	return inputs
}

// The report does not depend on how many workers there are or who is faster.
func TestReportsAreDeterministic(t *testing.T) {
	c := diff.Config{Old: side(t, policiestest.Grants), New: side(t, policiestest.Grants, policiestest.WithCheck("host", noHostPID)), Verbose: true}
	var first diff.Report
	for i, workers := range []int{1, 8} {
		c.Workers = workers
		r := run(t, c, of(mixed(200)...))
		if i == 0 {
			first = r
		}
		if diff := cmp.Diff(first, r, cmpopts.IgnoreUnexported(diff.Report{}, diff.Change{})); diff != "" {
			t.Errorf("%d workers: the report differs (-first +got):\n%s", workers, diff)
		}
	}
	// 67 of 200 use hostPID, of which 14 were denied before.
	if first.Cases != 200 || first.Flips != 53 || first.Changes != 14 || len(first.Flipped) != 7 {
		t.Errorf("Run() = %d cases, %d flips, %d changes, %d workloads, want 200, 53, 14, 7", first.Cases, first.Flips, first.Changes, len(first.Flipped))
	}
	if want := []diff.OwnerCount{{Owner: "team-payments", Flips: 53}}; !cmp.Equal(want, first.Owners) {
		t.Errorf("Owners = %v, want %v", first.Owners, want)
	}
	sum := int64(0)
	for i, change := range first.Flipped {
		sum += change.Count
		if i > 0 && first.Flipped[i-1].Workload.Name >= change.Workload.Name {
			t.Errorf("Flipped = %s after %s, want them in order", change.Workload.Name, first.Flipped[i-1].Workload.Name)
		}
	}
	if sum != first.Flips {
		t.Errorf("the flips listed add up to %d, want %d", sum, first.Flips)
	}
}

func TestWeightsCount(t *testing.T) {
	source := func(_ context.Context, emit func(diff.Case) error) error {
		return errors.Join(emit(diff.Case{Input: policiestest.Input(), Weight: 41}), emit(diff.Case{Input: policiestest.Input()}))
	}
	r := run(t, diff.Config{Old: side(t, policiestest.Grants), New: side(t, "")}, source)
	if r.Cases != 2 || r.Decisions != 42 || r.Flips != 42 || r.Flipped[0].Count != 42 || r.Owners[0].Flips != 42 {
		t.Errorf("Run() = %+v, want 42 decisions on 2 inputs", r)
	}
}

func TestRunEndsWithItsSource(t *testing.T) {
	s, broken := side(t, policiestest.Grants), errors.New("broken")
	c := diff.Config{Old: s, New: s}
	_, err := diff.Run(t.Context(), c, func(_ context.Context, emit func(diff.Case) error) error {
		return errors.Join(emit(diff.Case{Input: policiestest.Input()}), broken)
	})
	if !errors.Is(err, broken) {
		t.Errorf("Run() = %v, want the error of the source", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err = diff.Run(ctx, c, func(_ context.Context, emit func(diff.Case) error) error {
		for {
			if err := emit(diff.Case{Input: policiestest.Input()}); err != nil {
				return err
			}
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Run() = %v, want context.Canceled", err)
	}
	if _, err := diff.Run(t.Context(), diff.Config{Old: s}, of()); err == nil {
		t.Error("Run() without a side = nil, want an error")
	}
}

func TestProgressCountsEveryCase(t *testing.T) {
	s, last := side(t, policiestest.Grants), int64(0)
	c := diff.Config{Old: s, New: s, Progress: func(n int64) {
		if n != last+1 {
			t.Errorf("Progress(%d) after %d, want one more", n, last)
		}
		last = n
	}}
	run(t, c, of(mixed(100)...))
	if last != 100 {
		t.Errorf("last Progress = %d, want 100", last)
	}
}

func TestWorkloadOf(t *testing.T) {
	for name, test := range map[string]struct {
		owner  *policies.Owner
		labels map[string]string
		want   diff.Workload
	}{
		"no owner":             {nil, nil, diff.Workload{Namespace: "payments", Kind: "Pod", Name: "api-0"}},
		"its own":              {&policies.Owner{Kind: "StatefulSet", Name: "api"}, nil, diff.Workload{Namespace: "payments", Kind: "StatefulSet", Name: "api"}},
		"a Deployment's":       {&policies.Owner{Kind: "ReplicaSet", Name: "api-5d9c"}, map[string]string{"pod-template-hash": "5d9c"}, diff.Workload{Namespace: "payments", Kind: "Deployment", Name: "api"}},
		"another hash":         {&policies.Owner{Kind: "ReplicaSet", Name: "api-5d9c"}, map[string]string{"pod-template-hash": "5d9"}, diff.Workload{Namespace: "payments", Kind: "ReplicaSet", Name: "api-5d9c"}},
		"a ReplicaSet alone":   {&policies.Owner{Kind: "ReplicaSet", Name: "api-5d9c"}, nil, diff.Workload{Namespace: "payments", Kind: "ReplicaSet", Name: "api-5d9c"}},
		"a CronJob's":          {&policies.Owner{Kind: "Job", Name: "api-29480160"}, nil, diff.Workload{Namespace: "payments", Kind: "CronJob", Name: "api"}},
		"a Job with a version": {&policies.Owner{Kind: "Job", Name: "api-12"}, nil, diff.Workload{Namespace: "payments", Kind: "Job", Name: "api-12"}},
		"a name of a dash":     {&policies.Owner{Kind: "Job", Name: "-12345678"}, nil, diff.Workload{Namespace: "payments", Kind: "Job", Name: "-12345678"}},
	} {
		in := policiestest.Input(func(in *policies.Input) { in.Pod.Owner, in.Pod.Labels = test.owner, test.labels })
		if got := diff.WorkloadOf(in); got != test.want {
			t.Errorf("%s: WorkloadOf() = %v, want %v", name, got, test.want)
		}
	}
}
