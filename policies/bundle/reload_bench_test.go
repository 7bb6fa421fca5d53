package bundle_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// turns is a Verifier of two archives, which it reads by turns.
type turns struct {
	archives [2][]byte
	n        int
}

func (t *turns) Load(context.Context) (policies.Bundle, error) {
	t.n++
	return bundle.ReadTarball(bytes.NewReader(t.archives[t.n%2]))
}

// large is the archive of a bundle with n grants beside the usual one.
func large(b *testing.B, n int, serial int64) []byte {
	b.Helper()
	loaded := load(b, policiestest.Grants, manifest(fmt.Sprintf(`,"serial":%d`, serial)))
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
		b.Fatal(err)
	}
	data, ok := loaded.Data["portcullis"].(map[string]any)
	if !ok {
		b.Fatalf("the data of the bundle is %T", loaded.Data["portcullis"])
	}
	data["grants"] = map[string]any{"by_subject": index}
	return packed(b, loaded)
}

// slowest keeps the longest of some durations.
type slowest struct{ atomic.Int64 }

func (s *slowest) add(d time.Duration) {
	for {
		have := s.Load()
		if int64(d) <= have || s.CompareAndSwap(have, int64(d)) {
			return
		}
	}
}

// deciding has goroutines decide while f runs, and returns the slowest decision and
// how many there were.
func deciding(b *testing.B, s *bundle.Source, f func()) (longest time.Duration, count int64) {
	b.Helper()
	var most slowest
	var total atomic.Int64
	in := policiestest.Input(func(in *policies.Input) {
		in.Subject.Namespace, in.Subject.ServiceAccount = "team-7", "api"
		in.Requests = []policies.Request{{Secret: "local://node/team-7/db#password", File: "password"}}
	})
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				begin := time.Now()
				d := s.Active().Decide(b.Context(), in)
				most.add(time.Since(begin))
				total.Add(1)
				if d.Verdict() == policies.VerdictError {
					b.Errorf("Decide() by serial %d = %v, want a decision", d.BundleSerial, d.Undecided)
					return
				}
			}
		})
	}
	f()
	close(stop)
	readers.Wait()
	return time.Duration(most.Load()), total.Load()
}

// BenchmarkReloadWhileDeciding is what a node's mounts notice of a bundle with a
// hundred thousand grants that replaces another: the slowest decision meanwhile, and
// its ratio to the slowest in as much time without a reload. A reload is everything
// from the archive to the engine in force.
func BenchmarkReloadWhileDeciding(b *testing.B) {
	const grants = 100_000
	from := &turns{archives: [2][]byte{large(b, grants, 1), large(b, grants, 2)}}
	s, err := bundle.NewSource(bundle.Config{
		Verifier: from, AllowUnsigned: true, Compile: policies.Options{Clock: now, Budget: time.Minute},
	})
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Reload(b.Context()); err != nil {
		b.Fatal(err)
	}
	var during, quiet slowest
	var reloads time.Duration
	for b.Loop() {
		before := s.Active().Digest()
		var took time.Duration
		longest, count := deciding(b, s, func() {
			begin := time.Now()
			if err := s.Reload(b.Context()); err != nil {
				b.Error(err)
			}
			took = time.Since(begin)
		})
		if s.Active().Digest() == before || count == 0 {
			b.Fatalf("%d decisions while %s stayed in force, want decisions and another bundle", count, before)
		}
		during.add(longest)
		reloads += took
		b.StopTimer()
		longest, _ = deciding(b, s, func() { time.Sleep(took) })
		quiet.add(longest)
		b.StartTimer()
	}
	b.ReportMetric(float64(during.Load())/1e6, "ms-slowest-during-reload")
	b.ReportMetric(float64(quiet.Load())/1e6, "ms-slowest-without")
	b.ReportMetric(float64(during.Load())/float64(max(quiet.Load(), 1)), "slowest-ratio")
	b.ReportMetric(reloads.Seconds()/float64(b.N), "s/reload")
}
