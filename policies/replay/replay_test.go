package replay_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/audittest"
	"github.com/portcullis-csi/portcullis/audit/inputs"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
	"github.com/portcullis-csi/portcullis/policies/replay"
)

// made is what decisions were made with.
type made struct {
	bundles map[string]policies.Bundle
	engines []*policies.Engine
}

func load(t testing.TB, grants string, options ...policiestest.Option) (policies.Bundle, *policies.Engine) {
	t.Helper()
	b, err := bundle.LoadFS(policiestest.Files(grants, options...))
	if err != nil {
		t.Fatal(err)
	}
	return b, policiestest.Engine(t, grants, options...)
}

// several are bundles that decide differently.
func several(t testing.TB) made {
	t.Helper()
	m := made{bundles: map[string]policies.Bundle{}}
	for _, one := range []struct {
		grants  string
		options []policiestest.Option
	}{
		{policiestest.Grants, nil},
		{"", nil},
		{"", []policiestest.Option{policiestest.WithConfig(`monitor: {until: 2026-03-31, rules: ["*"]}`)}},
	} {
		b, e := load(t, one.grants, one.options...)
		m.bundles[b.Digest], m.engines = b, append(m.engines, e)
	}
	return m
}

func (m made) bundle(digest string) (policies.Bundle, error) {
	b, ok := m.bundles[digest]
	if !ok {
		return b, inputs.ErrGone
	}
	return b, nil
}

// facts is the i-th of many inputs.
func facts(i int) policies.Input {
	phases := []policies.Phase{policies.PhaseMount, policies.PhaseRotate, policies.PhaseAdmission}
	return policiestest.Input(func(in *policies.Input) {
		in.Phase = phases[i%len(phases)]
		in.NowNS += int64(i) * int64(time.Second)
		in.Subject.PodName = fmt.Sprintf("api-%d", i)
		in.Pod.Labels = map[string]string{"n": fmt.Sprint(i), "html": "<&>"}
		if i%5 == 0 {
			in.Subject.Namespace = "other"
		}
		if i%7 == 0 {
			in.Pod.Containers[0].Privileged = true
		}
	})
}

// history makes decisions through a recorder, and returns the log and a store as
// a later process finds it.
func history(t testing.TB, m made, decisions int, maxBytes int64) (*audittest.Log, *inputs.Store) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "audit-inputs")
	store, err := inputs.Open(inputs.Config{Dir: dir, MaxBytes: maxBytes, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	r, l := audittest.New(t, func(c *audit.Config) { c.Inputs = store })
	var group sync.WaitGroup
	for worker := range 2 {
		group.Go(func() {
			for i := worker; i < decisions; i += 2 {
				engine := m.engines[i*len(m.engines)/decisions]
				if err := r.Record(t.Context(), audit.Decided(engine.Decide(t.Context(), facts(i)))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	audittest.Closed(t, r, l)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := inputs.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = again.Close() })
	return l, again
}

func leaves(l *audittest.Log) inputs.Leaves {
	return func(f func(epoch, index int64, leaf []byte) error) error {
		return l.Each(func(index int64, leaf []byte) error { return f(1, index, leaf) })
	}
}

// TestP2ReplayedDecisionsAreTheSame: 5,000 decisions by several bundles, made
// again from what the log and the kept inputs hold.
func TestP2ReplayedDecisionsAreTheSame(t *testing.T) {
	m := several(t)
	l, store := history(t, m, decisions, 64<<20)
	effects := map[string]int{}
	report, err := replay.Replay(t.Context(), inputs.Recorded(leaves(l), store), m.bundle, func(r replay.Result) error {
		effects[r.Recorded.Effect]++
		if r.Outcome != replay.Same {
			t.Errorf("decision %d: %s, %v differ: %v", r.Recorded.Index, r.Outcome, r.Differs, r.Err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if report.Decisions != decisions || report.Outcomes[replay.Same] != decisions || !report.Agrees() {
		t.Errorf("Replay() = %+v, want %d the same", report, decisions)
	}
	if len(effects) < 3 {
		t.Errorf("the decisions are %v, want allows, monitored ones and denials", effects)
	}
}

// TestReplaySaysWhatIsGone: the oldest inputs were dropped for want of room.
func TestReplaySaysWhatIsGone(t *testing.T) {
	const decisions = 300
	m := several(t)
	l, store := history(t, m, decisions, 128<<10)
	kept := 0
	report, err := replay.Replay(t.Context(), inputs.Recorded(leaves(l), store), m.bundle, func(r replay.Result) error {
		if (len(r.Recorded.Input) == 0) != (r.Outcome == replay.InputGone) {
			t.Errorf("decision %d with an input of %d bytes: %s", r.Recorded.Index, len(r.Recorded.Input), r.Outcome)
		}
		if r.Outcome == replay.Same {
			kept++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[replay.Outcome]int64{replay.Same: int64(kept), replay.InputGone: int64(decisions - kept)}
	if diff := cmp.Diff(want, report.Outcomes); diff != "" || kept < 50 || kept > decisions-50 {
		t.Errorf("outcomes of %d decisions mismatch (-want +got):\n%s", decisions, diff)
	}
}

// records are a few, which tests change.
func records(t testing.TB, m made) []policies.Recorded {
	t.Helper()
	l, store := history(t, m, 9, 1<<20)
	var list []policies.Recorded
	for r, err := range inputs.Recorded(leaves(l), store) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	return list
}

func sequence(list ...policies.Recorded) iter.Seq2[policies.Recorded, error] {
	return func(yield func(policies.Recorded, error) bool) {
		for _, r := range list {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func TestReplayFindsWhatIsNotSo(t *testing.T) {
	m := several(t)
	all := records(t, m)
	find := func(effect string) policies.Recorded {
		i := slices.IndexFunc(all, func(r policies.Recorded) bool { return r.Effect == effect })
		if i < 0 {
			t.Fatalf("no decision is %s", effect)
		}
		return all[i]
	}
	allow, deny, monitored := find("allow"), find("deny"), find("allowed_monitored")
	tests := []struct {
		name    string
		record  policies.Recorded
		change  func(*policies.Recorded)
		want    replay.Outcome
		differs []string
	}{
		{"an allow", allow, func(*policies.Recorded) {}, replay.Same, nil},
		{"a denial", deny, func(*policies.Recorded) {}, replay.Same, nil},
		{"a monitored allow", monitored, func(*policies.Recorded) {}, replay.Same, nil},
		{"the verdict", deny, func(r *policies.Recorded) { r.Effect = "allow" }, replay.Different, []string{"effect"}},
		{"the id", deny, func(r *policies.Recorded) { r.DecisionID = allow.DecisionID }, replay.Different, []string{"decisionId"}},
		{"monitor mode", monitored, func(r *policies.Recorded) { r.Effect = "allow" }, replay.Different, []string{"effect"}},
		{"a rule more", deny, func(r *policies.Recorded) { r.Deny = append(slices.Clone(r.Deny), "PR-999") }, replay.Different, []string{"deny"}},
		{"a rule less", deny, func(r *policies.Recorded) { r.Deny = nil }, replay.Different, []string{"deny"}},
		{"a warning less", monitored, func(r *policies.Recorded) { r.Warn = nil }, replay.Different, []string{"warn"}},
		{"another grant", allow, func(r *policies.Recorded) { r.Grants = []string{"G-9"} }, replay.Different, []string{"grants"}},
		{"a waiver", allow, func(r *policies.Recorded) { r.Waivers = []string{"W-1"} }, replay.Different, []string{"waivers"}},
		{"another input", allow, func(r *policies.Recorded) { r.Input = deny.Input }, replay.InputAltered, nil},
		{"no input at all", allow, func(r *policies.Recorded) { r.Input = []byte(`{"contract":"portcullis/v1"}`) }, replay.InputAltered, nil},
		{"one byte of it", allow, func(r *policies.Recorded) {
			r.Input = bytes.Replace(bytes.Clone(r.Input), []byte("api-"), []byte("apj-"), 1)
		}, replay.InputAltered, nil},
		{"an input that is gone", allow, func(r *policies.Recorded) { r.Input = nil }, replay.InputGone, nil},
		{"a bundle that is gone", allow, func(r *policies.Recorded) { r.BundleDigest = "sha256:none" }, replay.BundleGone, nil},
		{"another library", allow, func(r *policies.Recorded) { r.LibraryDigest = "sha256:none" }, replay.OtherLibrary, nil},
		{"no verdict", allow, func(r *policies.Recorded) { r.Effect = "error" }, replay.NoVerdict, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := tt.record
			tt.change(&r)
			report, err := replay.Replay(t.Context(), sequence(r), m.bundle, func(got replay.Result) error {
				if got.Outcome != tt.want || !slices.Equal(got.Differs, tt.differs) {
					t.Errorf("Replay() = %s, %v differ (%v), want %s, %v", got.Outcome, got.Differs, got.Err, tt.want, tt.differs)
				}
				return nil
			})
			agrees := tt.want != replay.Different && tt.want != replay.InputAltered
			if err != nil || report.Agrees() != agrees || report.Outcomes[tt.want] != 1 {
				t.Errorf("Replay() = %+v, %v, want one %s", report, err, tt.want)
			}
		})
	}
}

// TestNamesThatNoEventHolds stand in it by their digest. Authors can give none,
// but the engine takes an index from anywhere.
func TestNamesThatNoEventHolds(t *testing.T) {
	b, _ := load(t, policiestest.Grants)
	text, err := json.Marshal(b.Data)
	if err != nil {
		t.Fatal(err)
	}
	b.Data = nil
	if err := json.Unmarshal(bytes.ReplaceAll(text, []byte(`"G-1"`), []byte(`"G 1"`)), &b.Data); err != nil {
		t.Fatal(err)
	}
	engine, err := policies.Compile(t.Context(), b, policies.Options{Clock: func() time.Time { return time.Unix(0, policiestest.Now) }})
	if err != nil {
		t.Fatal(err)
	}
	m := made{bundles: map[string]policies.Bundle{b.Digest: b}, engines: []*policies.Engine{engine}}
	held := false
	for _, r := range records(t, m) {
		held = held || slices.ContainsFunc(r.Grants, func(name string) bool { return strings.HasPrefix(name, "sha256:") })
		if _, err := replay.Replay(t.Context(), sequence(r), m.bundle, func(got replay.Result) error {
			if got.Outcome != replay.Same {
				t.Errorf("decision with grants %v: %s, %v differ", r.Grants, got.Outcome, got.Differs)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if !held {
		t.Error("no event names the grant by its digest: the test is broken")
	}
}

func TestReplayEndsWithAnError(t *testing.T) {
	m := several(t)
	one := records(t, m)[0]
	broken := errors.New("the log ends here")
	failing := func(yield func(policies.Recorded, error) bool) {
		_ = yield(one, nil) && yield(policies.Recorded{}, broken)
	}
	if report, err := replay.Replay(t.Context(), failing, m.bundle, nil); !errors.Is(err, broken) || report.Decisions != 1 {
		t.Errorf("Replay() = %+v, %v, want one decision and %v", report, err, broken)
	}
	stop := errors.New("enough")
	if _, err := replay.Replay(t.Context(), sequence(one, one), m.bundle, func(replay.Result) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Replay() = %v, want %v", err, stop)
	}
	if _, err := replay.Replay(t.Context(), sequence(one), nil, nil); err == nil {
		t.Error("Replay() without bundles = nil, want an error")
	}
}

// TestFewBundlesAreReadAgain: records come in the order of their time.
func TestFewBundlesAreReadAgain(t *testing.T) {
	m := several(t)
	reads := map[string]int{}
	list := records(t, m)
	list = append(list, list...)
	if _, err := replay.Replay(t.Context(), sequence(list...), func(digest string) (policies.Bundle, error) {
		reads[digest]++
		return m.bundle(digest)
	}, nil); err != nil {
		t.Fatal(err)
	}
	if n := slices.Max(slices.Collect(maps.Values(reads))); n != 1 || len(reads) != len(m.engines) {
		t.Errorf("bundles were read %v times, want each once", reads)
	}
}

// TestAnotherBundleIsNotTakenForIt: the digest is what was recorded.
func TestAnotherBundleIsNotTakenForIt(t *testing.T) {
	m := several(t)
	one := records(t, m)[0]
	other, _ := load(t, policiestest.Grants, policiestest.WithConfig("mass_revoke: true"))
	report, err := replay.Replay(t.Context(), sequence(one), func(string) (policies.Bundle, error) { return other, nil }, nil)
	if err != nil || report.Outcomes[replay.BundleGone] != 1 {
		t.Errorf("Replay() = %+v, %v, want that the bundle is another", report, err)
	}
}
