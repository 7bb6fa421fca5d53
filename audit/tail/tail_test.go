package tail_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/admin"
	"github.com/portcullis-csi/portcullis/audit/tail"
)

// memory is a tail.Source: the events of each epoch, from epoch 1 on.
type memory struct {
	epochs [][]stored
	gone   int   // so many of the oldest epochs are deleted once they are listed
	read   int64 // how many events were given
	err    error
}

// stored is an event and its leaf.
type stored struct {
	time time.Time
	leaf []byte
}

func (m *memory) Epochs(context.Context) ([]admin.Epoch, error) {
	var list []admin.Epoch
	for i, events := range m.epochs {
		e := admin.Epoch{Number: int64(i) + 1, Size: int64(len(events)), Closed: i < len(m.epochs)-1}
		if len(events) > 0 {
			e.From, e.To = events[0].time, events[len(events)-1].time
		}
		list = append(list, e)
	}
	return list, nil
}

func (m *memory) Read(_ context.Context, from admin.Position, count int64, f func(admin.Position, []byte) error) error {
	if from.Epoch <= int64(m.gone) {
		return admin.ErrGone
	}
	for i, e := range m.epochs[from.Epoch-1] {
		if int64(i) < from.Index || int64(i) >= from.Index+count {
			continue
		}
		m.read++
		if err := f(admin.Position{Epoch: from.Epoch, Index: int64(i)}, e.leaf); err != nil {
			return err
		}
	}
	return m.err
}

func start() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// denial is one of the namespace, so many seconds after the start.
func denial(namespace string, seconds int) audit.Event {
	e := audit.Rejected(audit.Claim{Namespace: namespace, Pod: "api-0", ServiceAccount: "api", Volume: "secrets"}, audit.ReasonIdentityUnconfirmed)
	e.Time = start().Add(time.Duration(seconds) * time.Second)
	return e
}

// twoEpochs has 5000 denials of "loud" and some of "quiet" in each epoch.
func twoEpochs(t *testing.T) *memory {
	t.Helper()
	m := &memory{epochs: make([][]stored, 2)}
	for epoch := range 2 {
		for i := range 5000 {
			namespace := "loud"
			if i%1000 == 7 {
				namespace = "quiet"
			}
			e := denial(namespace, epoch*5000+i)
			leaf, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			m.epochs[epoch] = append(m.epochs[epoch], stored{e.Time, leaf})
		}
	}
	return m
}

func places(t *testing.T, s tail.Source, w tail.Want) (got []string, next admin.Position) {
	t.Helper()
	w.Show = func(e tail.Entry) error {
		got = append(got, fmt.Sprintf("%d/%d", e.At.Epoch, e.At.Index))
		return nil
	}
	next, err := tail.Last(t.Context(), s, w)
	if err != nil {
		t.Fatalf("Last() = %v, want no error", err)
	}
	return got, next
}

func TestLast(t *testing.T) {
	quiet := tail.Filter{Namespace: "quiet"}
	tests := map[string]struct {
		last   int
		filter tail.Filter
		want   []string
		most   int64 // events that may be read for it
	}{
		"the last three":          {3, tail.Filter{}, []string{"2/4997", "2/4998", "2/4999"}, 3},
		"of a namespace":          {2, quiet, []string{"2/3007", "2/4007"}, 4096},
		"in the epoch before":     {7, quiet, []string{"1/3007", "1/4007", "2/7", "2/1007", "2/2007", "2/3007", "2/4007"}, 10000},
		"all of a namespace":      {0, quiet, []string{"1/7", "1/1007", "1/2007", "1/3007", "1/4007", "2/7", "2/1007", "2/2007", "2/3007", "2/4007"}, 10000},
		"more than there are":     {99, quiet, []string{"1/7", "1/1007", "1/2007", "1/3007", "1/4007", "2/7", "2/1007", "2/2007", "2/3007", "2/4007"}, 10000},
		"since":                   {9, tail.Filter{Namespace: "quiet", Since: start().Add(7000 * time.Second)}, []string{"2/2007", "2/3007", "2/4007"}, 5000},
		"all since":               {0, tail.Filter{Namespace: "quiet", Since: start().Add(7000 * time.Second)}, []string{"2/2007", "2/3007", "2/4007"}, 5000},
		"since later than all":    {9, tail.Filter{Since: start().Add(time.Hour * 24)}, nil, 4096},
		"of a type that is there": {1, tail.Filter{Types: []string{"driver.start", "secret.mount"}}, []string{"2/4999"}, 4096},
		"of another type":         {1, tail.Filter{Types: []string{"driver.start"}}, nil, 10000},
		"of an outcome":           {1, tail.Filter{Outcomes: []string{"denied"}, Pod: "api-0"}, []string{"2/4999"}, 4096},
		"of another outcome":      {1, tail.Filter{Outcomes: []string{"success"}}, nil, 10000},
		"of another decision":     {1, tail.Filter{Decision: "X"}, nil, 10000},
		"of another pod":          {1, tail.Filter{Pod: "api-1"}, nil, 10000},
	}
	s := twoEpochs(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s.read = 0
			got, next := places(t, s, tail.Want{Last: tt.last, Filter: tt.filter})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Last(%d) (-want +got):\n%s", tt.last, diff)
			}
			if next != (admin.Position{Epoch: 2, Index: 5000}) {
				t.Errorf("Last() goes on at %v, want after the last event", next)
			}
			if s.read > tt.most {
				t.Errorf("Last(%d) read %d events, want at most %d", tt.last, s.read, tt.most)
			}
		})
	}
}

func TestLastPassesOverWhatIsDeletedMeanwhile(t *testing.T) {
	s := twoEpochs(t)
	s.gone = 1
	for _, n := range []int{0, 9} {
		got, _ := places(t, s, tail.Want{Last: n, Filter: tail.Filter{Namespace: "quiet"}})
		if diff := cmp.Diff([]string{"2/7", "2/1007", "2/2007", "2/3007", "2/4007"}, got); diff != "" {
			t.Errorf("Last(%d) (-want +got):\n%s", n, diff)
		}
	}
}

func TestLastOfNothing(t *testing.T) {
	if got, next := places(t, &memory{}, tail.Want{Last: 3}); got != nil || next != (admin.Position{}) {
		t.Errorf("Last() of no epochs = %v, %v, want nothing, and to begin at the oldest", got, next)
	}
	if got, next := places(t, &memory{epochs: [][]stored{{}}}, tail.Want{Last: 3}); got != nil || next.Epoch != 1 {
		t.Errorf("Last() of an empty epoch = %v, %v, want nothing, and to begin there", got, next)
	}
}

func TestRing(t *testing.T) {
	for n, want := range map[int]string{0: "0 1 2 3 4 5 6", 1: "6", 3: "4 5 6", 7: "0 1 2 3 4 5 6", 9: "0 1 2 3 4 5 6"} {
		var got []string
		r := tail.NewRing(tail.Want{Last: n, Filter: tail.Filter{Namespace: "a"}, Show: func(e tail.Entry) error {
			got = append(got, fmt.Sprint(e.At.Index))
			return nil
		}})
		for i := range 14 {
			e := denial([]string{"a", "b"}[i%2], i)
			leaf, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Add(admin.Position{Epoch: 1, Index: int64(i / 2)}, leaf); err != nil {
				t.Fatal(err)
			}
			clear(leaf) // as a reader does that uses its buffer again
		}
		if err := r.Show(); err != nil {
			t.Fatal(err)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("a ring of %d shows %v, want %s", n, got, want)
		}
	}
}

func TestParseSince(t *testing.T) {
	for text, want := range map[string]time.Time{"90m": start().Add(-90 * time.Minute), "0s": start(), "2026-01-02T03:04:05+01:00": time.Date(2026, 1, 2, 2, 4, 5, 0, time.UTC)} {
		if got, err := tail.ParseSince(text, start()); err != nil || !got.Equal(want) {
			t.Errorf("ParseSince(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "-1h", "yesterday", "2026-01-02", "\x1b"} {
		if got, err := tail.ParseSince(text, start()); err == nil || !strings.Contains(err.Error(), "; hint: ") {
			t.Errorf("ParseSince(%q) = %v, %v, want an error with a hint", text, got, err)
		}
	}
}

func TestLastFails(t *testing.T) {
	failure := errors.New("disk")
	s := twoEpochs(t)
	for _, n := range []int{0, 3} {
		s.err = nil
		if _, err := tail.Last(t.Context(), s, tail.Want{Last: n, Show: func(tail.Entry) error { return failure }}); !errors.Is(err, failure) {
			t.Errorf("Last(%d) = %v, want the error of Show", n, err)
		}
		s.err = failure
		if _, err := tail.Last(t.Context(), s, tail.Want{Last: n, Show: func(tail.Entry) error { return nil }}); !errors.Is(err, failure) {
			t.Errorf("Last(%d) = %v, want the error of Read", n, err)
		}
	}
}

func TestFilterIsChecked(t *testing.T) {
	for want, f := range map[string]tail.Filter{
		`"secret.mont" is no type of event; hint: `: {Types: []string{"secret.mount", "secret.mont"}},
		`"refused" is no outcome; hint: `:           {Outcomes: []string{"refused"}},
		`"\x1b" is no outcome; hint: `:              {Outcomes: []string{"\x1b"}},
	} {
		if err := f.Check(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("Check(%v) = %v, want %q", f, err, want)
		}
	}
	if err := (tail.Filter{Types: tail.Types(), Outcomes: tail.Outcomes()}).Check(); err != nil {
		t.Errorf("Check(every word) = %v, want no error", err)
	}
}

func TestOnlyTheEmptyFilterShowsWhatCannotBeRead(t *testing.T) {
	e := tail.Read(admin.Position{Epoch: 1}, []byte(`{"schema":"other"}`))
	if !e.Unreadable || !(tail.Filter{}).Matches(e) || (tail.Filter{Since: start()}).Matches(e) {
		t.Errorf("Matches() of %v: want true for the empty filter alone", e)
	}
}

func TestLine(t *testing.T) {
	decided := denial("payments", 0)
	decided.Policy = &audit.Policy{DecisionID: "ABCDEFGHIJKLMNOPQRSTUVWXYZ", Rules: []audit.Rule{
		{ID: "PR-100", Denies: true}, {ID: "PR-100", Denies: true}, {ID: "PR-200", Denies: true, Waived: true}, {ID: "PR-300", Monitored: true}, {ID: "PR-400"}}}
	intent := decided
	intent.Stage, intent.Policy, intent.Actor.Unconfirmed, intent.Reason, intent.Severity = audit.StageIntent, nil, false, "", audit.SeverityInfo
	opened := audit.LogBoundary(audit.TypeLogOpened, audit.LogState{Epoch: 2, Size: 12, Lost: true, Missing: 1, Unsigned: 3, Key: "a+b+c"})
	opened.Time = start()
	loaded := audit.PolicyLoaded(audit.Bundle{Serial: 7, Digest: "sha256:" + strings.Repeat("a", 64), Signed: true})
	loaded.Time = start()
	hostile := denial("payments", 0)
	hostile.Workload.Pod = "\x1b]0;owned\x07\u202e"
	many := denial("payments", 0)
	many.Policy = &audit.Policy{}
	for i := range 20 {
		many.Policy.Rules = append(many.Policy.Rules, audit.Rule{ID: fmt.Sprintf("PR-%d", 100+i), Denies: true})
	}
	tests := map[string]struct {
		event audit.Event
		want  string
	}{
		"denial":  {decided, "2026-03-01T12:00:00Z  secret.mount          denied    payments/api-0                  high  unconfirmed  rules PR-100  monitored PR-300  volume secrets  decision ABCDEFGHIJKLMNOPQRSTUVWXYZ  at 3/14"},
		"intent":  {intent, "2026-03-01T12:00:00Z  secret.mount          intent    payments/api-0                  volume secrets  at 3/14"},
		"refusal": {denial("payments", 0), "2026-03-01T12:00:00Z  secret.mount          denied    payments/api-0                  high  unconfirmed  reason IdentityUnconfirmed  volume secrets  at 3/14"},
		"log":     {opened, "2026-03-01T12:00:00Z  log.opened            success   -                               high  epoch 2 size 12  LOST  MISSING 1 epochs  key a+b+c  unsigned 3  at 3/14"},
		"policy":  {loaded, "2026-03-01T12:00:00Z  policy.change         success   -                               bundle serial 7 sha256:" + strings.Repeat("a", 64) + "  at 3/14"},
		"hostile": {hostile, `2026-03-01T12:00:00Z  secret.mount          denied    payments/"\x1b]0;owned\a\u202e"  high  unconfirmed  reason IdentityUnconfirmed  volume secrets  at 3/14`},
		"many":    {many, "2026-03-01T12:00:00Z  secret.mount          denied    payments/api-0                  high  unconfirmed  rules PR-100,PR-101,PR-102,PR-103,PR-104,PR-105,PR-106,PR-107,and 12 more  volume secrets  at 3/14"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := tail.Line(tail.Entry{At: admin.Position{Epoch: 3, Index: 14}, Event: tt.event}, time.UTC)
			if got != tt.want {
				t.Errorf("Line():\n got %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestLineOfWhatCannotBeRead(t *testing.T) {
	got := tail.Line(tail.Read(admin.Position{Epoch: 3, Index: 14}, []byte("\x1b[2J")), time.UTC)
	if want := "(not an event that this version can read)  at 3/14"; got != want {
		t.Errorf("Line() = %q, want %q", got, want)
	}
}

func TestPrintable(t *testing.T) {
	plain := []byte(`{"a":"b\u001b"}`)
	if got := tail.Printable(plain); !bytes.Equal(got, plain) {
		t.Errorf("Printable(%s) = %s, want the same", plain, got)
	}
	if got, want := string(tail.Printable([]byte("{\"a\":\n\"\u009b\x7f\u202e\U0001f600\xff\"}"))), `{"a": "\u009b\u007f\u202e\ud83d\ude00\ufffd"}`; got != want {
		t.Errorf("Printable() = %s, want %s", got, want)
	}
}

// FuzzLine: no bytes of a log reach the terminal, and what Printable writes is
// the same value.
func FuzzLine(f *testing.F) {
	for _, e := range []audit.Event{denial("payments", 0), audit.LogFound(audit.Opening{Size: 1}), audit.PolicyLoaded(audit.Bundle{Serial: 7})} {
		leaf, err := json.Marshal(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(leaf)
	}
	f.Add([]byte(`{"schema":"portcullis.dev/audit/v1","type":"\u001b[31m","outcome":"\u202e","workload":{"namespace":"a\nb"}}`))
	f.Add([]byte("{\"a\":\"\u009b\"}"))
	f.Fuzz(func(t *testing.T, leaf []byte) {
		line := tail.Line(tail.Read(admin.Position{Epoch: 1}, leaf), time.UTC)
		printed := tail.Printable(leaf)
		for _, r := range line + string(printed) {
			if r < ' ' || r > '~' {
				t.Fatalf("of %q the terminal gets %q and %q", leaf, line, printed)
			}
		}
		var want, got any
		if json.Unmarshal(leaf, &want) != nil {
			return
		}
		if err := json.Unmarshal(printed, &got); err != nil || !cmp.Equal(want, got) {
			t.Errorf("Printable(%q) = %q, %v, which is another value", leaf, printed, err)
		}
	})
}
