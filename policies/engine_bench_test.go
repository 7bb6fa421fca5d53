package policies_test

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// starterOf is the starter policy with n grants, one of which covers what
// tenRequests asks for.
func starterOf(tb testing.TB, n int) policies.Bundle {
	tb.Helper()
	b, err := bundle.LoadFS(starter(tb))
	if err != nil {
		tb.Fatal(err)
	}
	grants := make([]bundle.Grant, 0, n)
	for i := range n {
		team := fmt.Sprintf("team-%d", i)
		grants = append(grants, bundle.Grant{
			ID: fmt.Sprintf("G-%d", i), Owner: team, Expiry: "2126-12-31", Namespaces: []string{team},
			ServiceAccounts: []string{"api"}, Provider: "local", MaxFileMode: new("0440"),
			Secrets: []string{fmt.Sprintf("local://node/%s/*", team)},
		})
	}
	index, err := bundle.IndexGrants(grants, nil)
	if err != nil {
		tb.Fatal(err)
	}
	data, ok := b.Data["portcullis"].(map[string]any)
	if !ok {
		tb.Fatalf("the data of the starter policy is %T", b.Data["portcullis"])
	}
	data["grants"] = map[string]any{"by_subject": index}
	return b
}

func engineOf(tb testing.TB, n int) *policies.Engine {
	tb.Helper()
	return compiled(tb, starterOf(tb, n))
}

func compiled(tb testing.TB, b policies.Bundle) *policies.Engine {
	tb.Helper()
	e, err := policies.Compile(tb.Context(), b, policies.Options{Budget: 30 * time.Second})
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

const tierCheck = `# METADATA
# schemas:
#   - input: schema.input
package portcullis.checks.tier

deny contains finding if {
	some container in input.pod.containers
	container.privileged
	finding := {"id": "PR-300", "severity": "high", "message": "privileged"}
}

obligations := {"audit_level": 1}
`

// tenRequests is an input that asks for ten secrets in four containers.
func tenRequests(in *policies.Input) {
	in.Subject.Namespace = "team-7"
	in.Requests = nil
	for i := range 10 {
		in.Requests = append(in.Requests, policies.Request{
			Secret: fmt.Sprintf("local://node/team-7/app/db/secret-%d#password", i), File: fmt.Sprintf("secret-%d", i),
		})
	}
	for i := range 3 {
		c := in.Pod.Containers[0]
		c.Name = fmt.Sprintf("sidecar-%d", i)
		in.Pod.Containers = append(in.Pod.Containers, c)
	}
}

// BenchmarkDecide is an allow of the starter policy, and a denial by it.
func BenchmarkDecide(b *testing.B) {
	inputs := map[policies.Verdict]policies.Input{
		policies.VerdictAllow: policiestest.Input(tenRequests),
		policies.VerdictDeny:  policiestest.Input(tenRequests, hostPath("/"), firstContainer(func(c *policies.Container) { c.Privileged = true })),
	}
	for _, n := range []int{10, 10_000, 100_000} {
		engine := sync.OnceValue(func() *policies.Engine { return engineOf(b, n) })
		for verdict, in := range inputs {
			b.Run(fmt.Sprintf("%v/%d", verdict, n), func(b *testing.B) {
				e := engine()
				b.ReportAllocs()
				for b.Loop() {
					if d := e.Decide(b.Context(), in); d.Verdict() != verdict {
						b.Fatalf("Decide() = %v %v %v, want %v", d.Verdict(), d.Deny, d.Cause(), verdict)
					}
				}
			})
		}
	}
}

// BenchmarkReload is what a new bundle costs a node: time to compile it, and the
// heap that the engine in force, its successor and both at once hold.
func BenchmarkReload(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			text := starterOf(b, n)
			before := heap()
			active := compiled(b, text)
			one := heap() - before
			var both uint64
			for b.Loop() {
				next := compiled(b, text)
				b.StopTimer()
				both = max(both, heap()-before)
				runtime.KeepAlive(active) // as the one in force is until the swap
				active = next
				b.StartTimer()
			}
			b.ReportMetric(float64(one)/(1<<20), "MB-one-engine")
			b.ReportMetric(float64(both)/(1<<20), "MB-old-and-new")
		})
	}
}

// heap is what is reachable.
func heap() uint64 {
	runtime.GC()
	runtime.GC() // finalizers of the first may have let go of more
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestDecideCostsTheSameForAnyNumberOfGrants compares allocations, which the
// load of the machine does not change.
func TestDecideCostsTheSameForAnyNumberOfGrants(t *testing.T) {
	in := policiestest.Input(tenRequests)
	allocations := func(n int) float64 {
		e := engineOf(t, n)
		return testing.AllocsPerRun(20, func() {
			if d := e.Decide(t.Context(), in); d.Verdict() != policies.VerdictAllow {
				t.Fatalf("Decide() = %v (%v, %v), want allow", d.Verdict(), d.Deny, d.Cause())
			}
		})
	}
	few, many := allocations(10), allocations(10000)
	if many > few*1.02 || many < few*0.98 {
		t.Errorf("Decide() allocates %v times at 10 grants and %v times at 10000, want the same", few, many)
	}
	// The race detector adds a quarter to what it is without.
	if few > 10000 {
		t.Errorf("Decide() allocates %v times for ten secrets, want at most 10000", few)
	}
}
