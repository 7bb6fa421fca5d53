package audit_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/audittest"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// keeper notes what it is given.
type keeper struct {
	mu    sync.Mutex
	texts map[string]string
	kept  []string
	seen  []string // with the bundle's digest
}

func (k *keeper) Keep(sha string, text []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.texts == nil {
		k.texts = map[string]string{}
	}
	k.texts[sha] = string(text)
	k.kept = append(k.kept, sha)
}

func (k *keeper) Seen(sha, bundle string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.seen = append(k.seen, sha+" "+bundle)
}

func (k *keeper) count() (kept, seen int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.kept), len(k.seen)
}

// total is how many bytes were given.
func (k *keeper) total() (sum int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, sha := range k.kept {
		sum += len(k.texts[sha])
	}
	return sum
}

func keeping(t *testing.T) (*audit.Recorder, *audittest.Log, *keeper) {
	t.Helper()
	k := &keeper{}
	r, l := audittest.New(t, func(c *audit.Config) { c.Inputs = k })
	return r, l, k
}

func TestInputsOfDecisionsAreKept(t *testing.T) {
	for name, d := range map[string]policies.Decision{"an allow": policiestest.Allow(t), "a denial": policiestest.Deny(t), "an allow of a rotation": policiestest.Allow(t, rotating)} {
		t.Run(name, func(t *testing.T) {
			r, l, k := keeping(t)
			record(t, r, audit.Decided(d))
			r.Owe(audit.Finished(audit.DriverStarted().ID, policiestest.Allow(t), nil, audit.ReasonAborted))
			audittest.Closed(t, r, l)
			sum := sha256.Sum256([]byte(k.texts[d.InputSHA256]))
			if hex.EncodeToString(sum[:]) != d.InputSHA256 || len(k.texts) != 1 {
				t.Errorf("kept %v, want the input %s", k.texts, d.InputSHA256)
			}
			if diff := cmp.Diff([]string{d.InputSHA256 + " " + d.BundleDigest}, k.seen); diff != "" {
				t.Errorf("seen mismatch (-want +got):\n%s", diff)
			}
			if strings.Contains(string(l.Leaves()[0]), "containers") {
				t.Error("the event holds the input")
			}
		})
	}
}

// TestInputsAreKeptOnceTheEventStays: a store must not fill with what the log
// never heard of, and what was without a verdict may be beyond all bounds.
func TestInputsAreKeptOnceTheEventStays(t *testing.T) {
	deny := policiestest.Deny(t)
	tests := []struct {
		name       string
		do         func(t *testing.T, r *audit.Recorder, l *audittest.Log)
		kept, seen int
	}{
		{"durable", func(t *testing.T, r *audit.Recorder, _ *audittest.Log) { record(t, r, audit.Decided(deny)) }, 1, 1},
		{"owed", func(_ *testing.T, r *audit.Recorder, l *audittest.Log) {
			l.Fail(errDisk)
			r.Owe(audit.Decided(deny))
		}, 1, 1},
		{"refused by the disk", func(t *testing.T, r *audit.Recorder, l *audittest.Log) {
			l.Fail(errDisk)
			if r.Record(t.Context(), audit.Decided(deny)) == nil {
				t.Error("Record() = nil, want an error")
			}
		}, 0, 0},
		{"too late, and owed then", func(t *testing.T, r *audit.Recorder, l *audittest.Log) {
			release := l.Hang()
			e := audit.Decided(deny)
			if r.Record(t.Context(), e) == nil {
				t.Error("Record() = nil, want an error")
			}
			r.Owe(e)
			l.Fail(errDisk)
			release()
			synctest.Wait()
		}, 1, 1},
		{"repeated", func(t *testing.T, r *audit.Recorder, _ *audittest.Log) {
			for range 5 {
				record(t, r, audit.Decided(deny))
			}
		}, 1, 5},
		{"beyond the share", func(t *testing.T, r *audit.Recorder, l *audittest.Log) {
			l.Begin(1, 1)
			record(t, r, audit.Decided(deny))
		}, 0, 0},
		{"no verdict", func(t *testing.T, r *audit.Recorder, _ *audittest.Log) {
			record(t, r, audit.Decided(policiestest.Undecided(t)))
		}, 0, 0},
		{"rejected", func(t *testing.T, r *audit.Recorder, _ *audittest.Log) {
			record(t, r, audit.Rejected(claim(), audit.ReasonInvalidRequest))
		}, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, l, k := keeping(t)
				tt.do(t, r, l)
				synctest.Wait()
				if kept, seen := k.count(); kept != tt.kept || seen != tt.seen {
					t.Errorf("kept %d times and seen %d, want %d and %d", kept, seen, tt.kept, tt.seen)
				}
				l.Fail(nil)
				time.Sleep(time.Minute)
			})
		})
	}
}

// TestInputsOfRefusalsHaveAShare: a namespace with large pods that are denied
// must not push out what everybody else's decisions were made from.
func TestInputsOfRefusalsHaveAShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, l, k := keeping(t)
		l.Begin(1, epochBytes)
		large := func(in *policies.Input) { in.Pod.Labels = map[string]string{"pad": strings.Repeat("x", 10<<10)} }
		bytes := func(namespace string, decide func(testing.TB, ...func(*policies.Input)) policies.Decision) int {
			t.Helper()
			before := k.total()
			for i := range 30 {
				d := decide(t, large, func(in *policies.Input) { in.Subject.Namespace, in.Subject.PodName = namespace, fmt.Sprint("p", i) })
				record(t, r, audit.Decided(d))
			}
			synctest.Wait() // an input is handed over after its Record
			return k.total() - before
		}
		if n := bytes("loud", policiestest.Deny); n == 0 || n > epochBytes/40 {
			t.Errorf("%d bytes of inputs are kept of denials of one namespace, want some and at most %d", n, epochBytes/40)
		}
		if n := bytes("other", policiestest.Deny); n == 0 {
			t.Error("no input of another namespace is kept")
		}
		if n := bytes("payments", policiestest.Allow); n < 300<<10 {
			t.Errorf("%d bytes of inputs of allows are kept, want all", n)
		}
		audittest.Closed(t, r, l)
		if n := accountFor(t, l, "loud").listed; n != 30 {
			t.Errorf("%d denials are listed, want 30", n)
		}
	})
}
