package bundle_test

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"runtime/metrics"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
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

// watched is what deciding notices.
type watched struct {
	longest   time.Duration // of the decisions
	decisions int64
	blocked   time.Duration // of all of them together, at locks and channels
	heap      uint64        // the most
}

// deciding has goroutines decide while f runs.
func deciding(b *testing.B, s *bundle.Source, f func()) watched {
	b.Helper()
	var most slowest
	var total atomic.Int64
	in := policiestest.Input(func(in *policies.Input) {
		in.Subject.Namespace, in.Subject.ServiceAccount = "team-7", "api"
		in.Requests = []policies.Request{{Secret: "local://node/team-7/db#password", File: "password"}}
	})
	// Ending a child of a context locks it, which readers of one would wait for.
	ctx := context.WithoutCancel(b.Context())
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
				d := s.Active().Decide(ctx, in)
				most.add(time.Since(begin))
				total.Add(1)
				if d.Verdict() == policies.VerdictError {
					b.Errorf("Decide() by serial %d = %v, want a decision", d.BundleSerial, d.Undecided)
					return
				}
			}
		})
	}
	var heap uint64
	readers.Go(func() {
		for {
			heap = max(heap, live())
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	before := blocked(b)
	f()
	close(stop)
	readers.Wait()
	return watched{time.Duration(most.Load()), total.Load(), blocked(b) - before, heap}
}

// live is the heap, garbage included that nobody has swept. Asking stops nothing.
func live() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// blocked is how long decisions were held up at locks and channels so far. Waiting
// for a processor or for the garbage collector is not among it.
func blocked(b *testing.B) time.Duration {
	b.Helper()
	records := make([]runtime.BlockProfileRecord, 10_000)
	n, ok := runtime.BlockProfile(records)
	if !ok {
		b.Fatalf("the profile has %d records", n)
	}
	var cycles int64
	for _, r := range records[:n] {
		frames := runtime.CallersFrames(r.Stack())
		for more := true; more; {
			var f runtime.Frame
			if f, more = frames.Next(); strings.HasSuffix(f.Function, "policies.(*Engine).Decide") {
				cycles += r.Cycles
				break
			}
		}
	}
	return time.Duration(float64(cycles) / cyclesPerNanosecond(b))
}

// cyclesPerNanosecond is what a profile counts in, by its own report.
func cyclesPerNanosecond(b *testing.B) float64 {
	b.Helper()
	var text bytes.Buffer
	if err := pprof.Lookup("block").WriteTo(&text, 1); err != nil {
		b.Fatal(err)
	}
	var cycles float64
	for line := range strings.Lines(text.String()) {
		if _, err := fmt.Sscanf(line, "cycles/second=%g", &cycles); err == nil {
			return cycles / 1e9
		}
	}
	b.Fatalf("no unit in %.200q", text.String())
	return 0
}

// thousands is a Source of two bundles with a hundred thousand grants, by turns.
func thousands(b *testing.B) *bundle.Source {
	b.Helper()
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
	runtime.GC()
	return s
}

// spent is the processor time of this process so far.
func spent(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkReload is what a bundle with a hundred thousand grants costs a process
// that does nothing else: everything from the archive to the engine in force, which
// another was until then.
func BenchmarkReload(b *testing.B) {
	s := thousands(b)
	before := spent(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Reload(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric((spent(b)-before).Seconds()/float64(b.N), "cpu-s")
}

// BenchmarkReloadWhileDeciding is what a node's mounts notice of a bundle with a
// hundred thousand grants that replaces another. A reload is everything from the
// archive to the engine in force. The slowest decision meanwhile stands beside the
// slowest in as much time without a reload, and beside a goroutine that only takes
// a processor: what is more than that is the reload's. At locks and channels they
// wait for each other alone, as without one: a swap is one store of a pointer.
func BenchmarkReloadWhileDeciding(b *testing.B) {
	s := thousands(b)
	one := live()
	runtime.SetBlockProfileRate(1)
	defer runtime.SetBlockProfileRate(0)
	var during, quiet, beside, held, heldQuiet slowest
	var reloads time.Duration
	var heap uint64
	for b.Loop() {
		before := s.Active().Digest()
		var took time.Duration
		w := deciding(b, s, func() {
			begin := time.Now()
			if err := s.Reload(b.Context()); err != nil {
				b.Error(err)
			}
			took = time.Since(begin)
		})
		if s.Active().Digest() == before || w.decisions == 0 {
			b.Fatalf("%d decisions while %s stayed in force, want decisions and another bundle", w.decisions, before)
		}
		during.add(w.longest)
		held.add(w.blocked)
		heap = max(heap, w.heap)
		reloads += took
		b.StopTimer()
		w = deciding(b, s, func() { time.Sleep(took) })
		quiet.add(w.longest)
		heldQuiet.add(w.blocked)
		beside.add(deciding(b, s, func() {
			for begin := time.Now(); time.Since(begin) < took; {
			}
		}).longest)
		b.StartTimer()
	}
	b.ReportMetric(float64(during.Load())/1e6, "ms-slowest-during-reload")
	b.ReportMetric(float64(quiet.Load())/1e6, "ms-slowest-without")
	b.ReportMetric(float64(beside.Load())/1e6, "ms-slowest-beside-a-loop")
	b.ReportMetric(float64(held.Load())/1e6, "ms-blocked")
	b.ReportMetric(float64(heldQuiet.Load())/1e6, "ms-blocked-without")
	b.ReportMetric(reloads.Seconds()/float64(b.N), "s/reload")
	b.ReportMetric(float64(one)/(1<<20), "MiB-before")
	b.ReportMetric(float64(heap)/(1<<20), "MiB-most")
}
