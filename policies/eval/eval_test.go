package eval_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/eval"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

func schema(t testing.TB) *eval.Schema {
	t.Helper()
	s, err := eval.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func text(t testing.TB, in policies.Input) string {
	t.Helper()
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestReadIsWhatWasWritten(t *testing.T) {
	in := policiestest.Input()
	got, err := schema(t).Read(strings.NewReader(" "+text(t, in)+"\n"), eval.Clock{})
	if diff := cmp.Diff(in, got); err != nil || diff != "" {
		t.Errorf("Read() = %v, want no error and (-want +got):\n%s", err, diff)
	}
	at := time.Unix(1800000000, 0)
	in.NowNS = 0
	got, err = schema(t).Read(strings.NewReader(text(t, in)), eval.Clock{Given: at})
	if err != nil || got.NowNS != at.UnixNano() {
		t.Errorf("Read() at a time = %d, %v, want %d", got.NowNS, err, at.UnixNano())
	}
}

func TestReadNamesTheField(t *testing.T) {
	good := text(t, policiestest.Input())
	for name, test := range map[string]struct{ old, new, field, problem string }{
		"unknown":         {`"hostPID"`, `"hostPid"`, "pod.", "hostP"},
		"unknown key":     {`{"contract"`, `{"x\u001b[2J":1,"contract"`, `"x\x1b[2J"`, "no field"},
		"missing":         {`"cluster":"test",`, ``, "cluster", "missing"},
		"type":            {`"fsGroup":2000`, `"fsGroup":"2000"`, "pod.fsGroup", "is a JSON string, not integer"},
		"enum":            {`"kind":"main"`, `"kind":"extra"`, "pod.containers[0].kind", "is none of"},
		"contract":        {`portcullis/v1`, `portcullis/v2`, "contract", "is not portcullis/v1"},
		"null":            {`"fsGroup":2000`, `"fsGroup":null`, "pod.fsGroup", "is a JSON null"},
		"bounds":          {`"namespace":"payments"`, `"namespace":"Payments"`, "subject.namespace", "is not a namespace name"},
		"no time":         {`"now_ns":1768478400000000000`, `"now_ns":0`, "now_ns", "is zero"},
		"no JSON":         {`{"contract"`, `{contract`, "", "is not one JSON value"},
		"two values":      {good, good + good, "", "is not one JSON value"},
		"a list":          {good, "[]", "", "is a JSON array"},
		"key twice, case": {`"hostPID":false`, `"hostPID":false,"HostPID":true`, "pod.HostPID", "no field"},
	} {
		changed := strings.Replace(good, test.old, test.new, 1)
		if changed == good {
			t.Errorf("%s: nothing is changed: the test is broken", name)
		}
		_, err := schema(t).Read(strings.NewReader(changed), eval.Clock{})
		e, ok := errors.AsType[*eval.InputError](err)
		if !ok || !strings.HasPrefix(e.Field, test.field) || !strings.Contains(e.Field+e.Problem, test.problem) || e.Remedy == "" {
			t.Errorf("%s: Read() = %v, want an *InputError about %q that says %q", name, err, test.field, test.problem)
		}
	}
}

// What people leave out is added; what they wrote stays, and stays checked.
func TestReadCompletesWhatPeopleWrite(t *testing.T) {
	in := policiestest.Input()
	in.NowNS, in.Phase = 0, ""
	short := strings.NewReplacer(`"now_ns":0,`, ``, `"phase":"",`, ``).Replace(text(t, in))
	present, given := time.Unix(1800000000, 0), time.Unix(1900000000, 0)
	for name, test := range map[string]struct {
		at   eval.Clock
		want time.Time
	}{"present": {eval.Clock{Present: present}, present}, "given": {eval.Clock{Present: present, Given: given}, given}} {
		got, err := schema(t).Read(strings.NewReader(short), test.at)
		if err != nil || got.Phase != policies.PhaseCI || got.NowNS != test.want.UnixNano() {
			t.Errorf("%s: Read() = phase %q at %d, %v, want ci at %d", name, got.Phase, got.NowNS, err, test.want.UnixNano())
		}
	}
	if _, err := schema(t).Read(strings.NewReader(short), eval.Clock{}); err == nil {
		t.Error("Read() of an input without a time = nil, want an error")
	}
	for _, wrong := range []string{`{"phase":"",`, `{"now_ns":"soon",`, `{"now_ns":null,`} {
		if _, err := schema(t).Read(strings.NewReader(wrong+short[1:]), eval.Clock{Present: present}); err == nil {
			t.Errorf("Read() of an input with %s = nil, want an error", wrong)
		}
	}
	in = policiestest.Input()
	got, err := schema(t).Read(strings.NewReader(text(t, in)), eval.Clock{Present: present})
	if diff := cmp.Diff(in, got); err != nil || diff != "" {
		t.Errorf("Read() of a whole input = %v, want no error and (-want +got):\n%s", err, diff)
	}
}

func TestReadIsBounded(t *testing.T) {
	if _, err := schema(t).Read(strings.NewReader(strings.Repeat(" ", 2<<20)), eval.Clock{}); err == nil || !strings.Contains(err.Error(), "larger than 1 MiB") {
		t.Errorf("Read() = %v, want that it is too large", err)
	}
	broken := errors.New("broken")
	if _, err := schema(t).Read(iotest.ErrReader(broken), eval.Clock{}); !errors.Is(err, broken) {
		t.Errorf("Read() = %v, want %v", err, broken)
	}
}

// record is a line for an input as a log has it.
func record(t testing.TB, change func(*policies.Recorded)) string {
	t.Helper()
	in := policiestest.Input()
	d := policiestest.Engine(t, policiestest.Grants).Decide(t.Context(), in)
	canonical, err := in.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	r := policies.Recorded{EventID: "e-1", DecisionID: d.ID, InputSHA256: d.InputSHA256, NowNS: in.NowNS, Input: canonical, Effect: "allow"}
	change(&r)
	line, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(line) + "\n"
}

func TestRecorded(t *testing.T) {
	gone := func(r *policies.Recorded) { r.Input, r.EventID = nil, "e-2" }
	file := record(t, func(*policies.Recorded) {}) + "\n" + strings.TrimSpace(record(t, gone))
	var got []string
	var last eval.Line
	err := eval.Recorded(iotest.OneByteReader(strings.NewReader(file)), func(l eval.Line) error {
		got = append(got, l.EventID)
		if kept := l.EventID == "e-1"; l.Kept != kept || kept && cmp.Diff(policiestest.Input(), l.Facts) != "" {
			t.Errorf("line %d: Kept = %t, Facts = %+v, want the input of the first only", l.Number, l.Kept, l.Facts)
		}
		last = l
		return nil
	})
	if err != nil || !cmp.Equal([]string{"e-1", "e-2"}, got) || last.Number != 2 || last.Bytes != int64(len(file)) {
		t.Errorf("Recorded() = %q, %v, number %d, %d bytes, want both, 2 and %d", got, err, last.Number, last.Bytes, len(file))
	}
}

func TestRecordedRefuses(t *testing.T) {
	good := record(t, func(*policies.Recorded) {})
	stop := errors.New("stop")
	for name, test := range map[string]struct {
		file string
		want string
		is   error
	}{
		"another input":      {record(t, func(r *policies.Recorded) { r.Input = bytes.Replace(r.Input, []byte(`"api-0"`), []byte(`"api-1"`), 1) }), "decision 1", eval.ErrInputDiffers},
		"another digest":     {good + record(t, func(r *policies.Recorded) { r.InputSHA256 = strings.Repeat("0", 64) }), "decision 2", eval.ErrInputDiffers},
		"no digest":          {record(t, func(r *policies.Recorded) { r.InputSHA256 = "" }), "decision 1", eval.ErrInputDiffers},
		"no JSON":            {good + "{", "decision 2", nil},
		"unknown key":        {`{"eventID":"x"}`, "eventID", nil},
		"an input of eval":   {text(t, policiestest.Input()), "audit input --all", nil},
		"input out of bound": {record(t, func(r *policies.Recorded) { r.Input = json.RawMessage(`{"contract":"portcullis/v2"}`) }), "decision 1", nil},
		"no time":            {record(t, func(r *policies.Recorded) { r.NowNS = 0 }), "now_ns", nil},
		"an endless line":    {strings.Repeat("x", 2<<20), "longer than 1024 KiB", nil},
	} {
		err := eval.Recorded(strings.NewReader(test.file), func(eval.Line) error { return nil })
		if err == nil || !strings.Contains(err.Error(), test.want) || test.is != nil && !errors.Is(err, test.is) {
			t.Errorf("%s: Recorded() = %v, want an error with %q", name, err, test.want)
		}
	}
	if err := eval.Recorded(strings.NewReader(good), func(eval.Line) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Recorded() = %v, want the error of each", err)
	}
	if err := eval.Recorded(iotest.ErrReader(stop), func(eval.Line) error { return nil }); !errors.Is(err, stop) {
		t.Errorf("Recorded() = %v, want the error of the reader", err)
	}
}

// The whole decision, byte for byte: machines read it.
func TestDecisionsAsJSON(t *testing.T) {
	d := eval.Of(policiestest.Deny(t))
	d.DecisionID, d.BundleDigest, d.LibraryDigest, d.InputSHA256 = "ID", "sha256:b", "sha256:l", "i"
	got, err := json.Marshal(d)
	const want = `{"decisionId":"ID","effect":"deny","mode":"enforce","bundleDigest":"sha256:b","bundleSerial":1,"bundleSigned":false,"libraryDigest":"sha256:l","inputSha256":"i","nowNs":1768478400000000000,` +
		`"deny":[{"id":"PR-001","check":"live_grant","severity":"high","secret":"local://node/payments/db-password","message":"no live grant lets service account api in namespace payments have local://node/payments/db-password","remediation":"ask the owner of local://node/payments/db-password for a grant to service account api in namespace payments","waivable":false}],` +
		`"warn":[],"waivers":[],"grants":[],"obligations":{"on_revoke":"scrub","on_expire":"keep"}}`
	if diff := cmp.Diff(want, string(got)); err != nil || diff != "" {
		t.Errorf("Marshal() = %v, want no error and (-want +got):\n%s", err, diff)
	}
	if u := eval.Of(policiestest.Undecided(t)); u.Effect != "error" || u.Undecided != policies.UndecidedNoBundle || u.Cause == "" {
		t.Errorf("Of(undecided) = %+v, want effect error with reason and cause", u)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{text(f, policiestest.Input()), "{}", "[]", `{"contract":"portcullis/v1","pod":{"containers":[{}]}}`, `{"a":1,"a":2}`} {
		f.Add([]byte(seed))
	}
	s := schema(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		if in, err := s.Parse(text, eval.Clock{Present: time.Unix(1800000000, 0)}); err == nil && in.Validate() != nil {
			t.Errorf("Parse() returned an input that is out of bounds: %v", in.Validate())
		}
	})
}

func FuzzRecorded(f *testing.F) {
	for _, seed := range []string{record(f, func(*policies.Recorded) {}), "{}\n{}", "\n\n", `{"input":{}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		_ = eval.Recorded(bytes.NewReader(file), func(l eval.Line) error {
			if l.Kept && l.Facts.Validate() != nil {
				t.Errorf("Recorded() returned an input that is out of bounds: %v", l.Facts.Validate())
			}
			return nil
		})
	})
}
