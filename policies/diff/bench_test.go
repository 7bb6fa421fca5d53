package diff_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/metrics"
	"syscall"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/diff"
	"github.com/portcullis-csi/portcullis/policies/eval"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// recordedInputs is how many the figures of docs/POLICIES.md are for.
const recordedInputs = 10_000

// recorded is a file of recorded decisions as a log gives it: pods of a hundred
// teams with one to ten secrets and one to four containers, of which some are
// denied, some repeat, and of some the input is gone.
func recorded(tb testing.TB, n int) []byte {
	tb.Helper()
	var file bytes.Buffer
	w := bufio.NewWriter(&file)
	lines := json.NewEncoder(w)
	for i := range n {
		in := policiestest.Input(func(in *policies.Input) { realistic(in, i) })
		text, err := in.Canonical()
		if err != nil {
			tb.Fatal(err)
		}
		sum := sha256.Sum256(text)
		line := policies.Recorded{
			EventID: fmt.Sprintf("event-%d", i), NowNS: in.NowNS, InputSHA256: hex.EncodeToString(sum[:]), Repeated: int64(i % 3), Input: text,
		}
		if i%50 == 49 {
			line.Input = nil
		}
		if err := lines.Encode(line); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		tb.Fatal(err)
	}
	return file.Bytes()
}

func realistic(in *policies.Input, i int) {
	team := fmt.Sprintf("team-%d", i%100)
	in.Subject.Namespace, in.Subject.PodName = team, fmt.Sprintf("api-%d", i)
	in.Subject.NamespaceLabels = map[string]string{"kubernetes.io/metadata.name": team, "example.com/tier": "prod"}
	in.Pod.Owner = &policies.Owner{Kind: "ReplicaSet", Name: fmt.Sprintf("app-%d-5d9c7b9c4f", i%23)}
	in.Pod.Labels = map[string]string{"app": "app", "pod-template-hash": "5d9c7b9c4f"}
	in.Pod.HostPID = i%97 == 0
	in.Requests = nil
	for n := range i%10 + 1 {
		in.Requests = append(in.Requests, policies.Request{Secret: fmt.Sprintf("local://node/%s/app/db/secret-%d#password", team, n), File: fmt.Sprintf("secret-%d", n)})
	}
	for n := range i % 4 {
		c := in.Pod.Containers[0]
		c.Name = fmt.Sprintf("sidecar-%d", n)
		in.Pod.Containers = append(in.Pod.Containers, c)
	}
}

// teams grants each team but some its secrets.
func teams(without int) string {
	var b bytes.Buffer
	for i := range 100 {
		if i != without {
			fmt.Fprintf(&b, "- {id: G-%d, owner: owner-%d, expiry: 2126-12-31, namespaces: [team-%d], serviceAccounts: [api], provider: local, secrets: [\"local://node/team-%d/*\"]}\n", i, i, i, i)
		}
	}
	return b.String()
}

func source(file []byte, gone *int64) diff.Source {
	return func(_ context.Context, emit func(diff.Case) error) error {
		return eval.Recorded(bytes.NewReader(file), func(l eval.Line) error {
			if !l.Kept {
				*gone++
				return nil
			}
			return emit(diff.Case{Input: l.Facts, Weight: 1 + l.Repeated, Example: l.EventID})
		})
	}
}

// Every flip of a large log is found: a grant that is gone, and a new check.
func TestRecordedInputs(t *testing.T) {
	const n = 300
	gone := int64(0)
	c := diff.Config{Old: side(t, teams(-1)), New: side(t, teams(7), policiestest.WithCheck("host", noHostPID))}
	r := run(t, c, source(recorded(t, n), &gone))
	want := map[string]bool{}
	cases := 0
	for i := range n {
		if i%50 == 49 {
			continue
		}
		cases++
		if i%100 == 7 || i%97 == 0 {
			want[fmt.Sprintf("team-%d/app-%d", i%100, i%23)] = true
		}
	}
	got := map[string]bool{}
	for _, f := range r.Flipped {
		got[f.Workload.Namespace+"/"+f.Workload.Name] = true
		if f.Workload.Kind != "Deployment" || f.To != "deny" || len(f.Owners) != 1 || f.Owners[0] != "owner-"+f.Workload.Namespace[len("team-"):] {
			t.Errorf("flip = %+v, want a denial of a Deployment, and the owner of its grant", f)
		}
	}
	if int(r.Cases) != cases || int(gone) != n-cases || len(got) != len(want) {
		t.Errorf("Run() = %d cases, %d gone, %d workloads flip, want %d, %d, %d", r.Cases, gone, len(got), cases, n-cases, len(want))
	}
	for w := range want {
		if !got[w] {
			t.Errorf("%s does not flip, want it to", w)
		}
	}
}

// BenchmarkRecorded measures a diff over ten thousand recorded inputs: processor
// time of an input, decided by both bundles, and the heap that it takes.
func BenchmarkRecorded(b *testing.B) {
	file := recorded(b, recordedInputs)
	c := diff.Config{Old: side(b, teams(-1)), New: side(b, teams(7), policiestest.WithCheck("host", noHostPID))}
	for b.Loop() {
		peak, stop := watchHeap()
		gone, before := int64(0), processorTime(b)
		r := run(b, c, source(file, &gone))
		used := processorTime(b) - before
		stop()
		b.ReportMetric(float64(used.Microseconds())/float64(r.Cases), "cpu-µs/input")
		b.ReportMetric(float64(*peak)/(1<<20), "peak-MiB")
		if r.Flips == 0 || gone == 0 {
			b.Fatalf("Run() = %d flips, %d gone, want some", r.Flips, gone)
		}
	}
}

// watchHeap samples how much the heap grows, until stop.
func watchHeap() (peak *uint64, stop func()) {
	heap := func() uint64 {
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	runtime.GC()
	start := heap()
	peak, done, ended := new(uint64), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				if now := heap(); now > start {
					*peak = max(*peak, now-start)
				}
			}
		}
	}()
	return peak, func() {
		close(done)
		<-ended
	}
}

func processorTime(tb testing.TB) time.Duration {
	tb.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
