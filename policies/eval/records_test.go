package eval_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/eval"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// all are the records of a file, up to its first error.
func all(file string) (records []policies.Recorded, err error) {
	for r, e := range eval.Records(strings.NewReader(file)) {
		if e != nil {
			return records, e
		}
		records = append(records, r)
	}
	return records, nil
}

// Records are what the file holds, also where the input is not the one recorded:
// to say so is for whoever makes the decision again.
func TestRecordsAreAsTheyStand(t *testing.T) {
	nothing := func(*policies.Recorded) {}
	altered := func(r *policies.Recorded) {
		r.EventID, r.Input = "e-2", bytes.Replace(r.Input, []byte(`"api-0"`), []byte(`"api-1"`), 1)
	}
	none := func(r *policies.Recorded) {
		r.EventID, r.Input = "e-3", json.RawMessage(`{"contract":"portcullis/v2"}`)
	}
	got, err := all(record(t, nothing) + "\n \n" + record(t, altered) + record(t, none))
	if err != nil || len(got) != 3 {
		t.Fatalf("Records() = %d, %v, want three", len(got), err)
	}
	for i, want := range []string{"e-1", "e-2", "e-3"} {
		if got[i].EventID != want || len(got[i].Input) == 0 {
			t.Errorf("record %d = %s with %d bytes of input, want %s with its input", i, got[i].EventID, len(got[i].Input), want)
		}
	}
	// Each is its own: what a reader keeps does not change with the next line.
	if bytes.Equal(got[0].Input, got[1].Input) || !bytes.Contains(got[0].Input, []byte(`"api-0"`)) {
		t.Errorf("the first input changed with the second line: %s", got[0].Input)
	}
	if err := eval.Recorded(strings.NewReader(record(t, altered)), func(eval.Line) error { return nil }); !errors.Is(err, eval.ErrInputDiffers) {
		t.Errorf("Recorded() = %v, want ErrInputDiffers", err)
	}
}

func TestRecordsEnd(t *testing.T) {
	line := record(t, func(*policies.Recorded) {})
	n := 0
	for _, err := range eval.Records(strings.NewReader(strings.Repeat(line, 5))) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 2 {
			break
		}
	}
	if n != 2 {
		t.Errorf("Records() went on after %d, want an end at 2", n)
	}
	broken := errors.New("broken")
	var last error
	for _, err := range eval.Records(iotest.ErrReader(broken)) {
		last = err
	}
	if !errors.Is(last, broken) {
		t.Errorf("Records() = %v, want the error of the reader", last)
	}
	got, err := all(line + line + `{"eventID":"x"}` + "\n" + line)
	if len(got) != 2 || err == nil || !strings.Contains(err.Error(), "read recorded decision 3: ") {
		t.Errorf("Records() = %d, %v, want two and an error about the third", len(got), err)
	}
}

// Counts come from a file, and sums of them must not run over.
func TestRepeatedIsACount(t *testing.T) {
	for repeated, want := range map[int64]bool{0: true, 1: true, 1 << 40: true, 1<<40 + 1: false, -1: false, 1<<63 - 1: false, -1 << 63: false} {
		line := record(t, func(r *policies.Recorded) { r.Repeated = repeated })
		err := eval.Recorded(strings.NewReader(line), func(l eval.Line) error {
			if l.Repeated != repeated {
				t.Errorf("Repeated = %d, want %d", l.Repeated, repeated)
			}
			return nil
		})
		_, again := all(line)
		if (err == nil) != want || (again == nil) != want {
			t.Errorf("%d repeats: Recorded() = %v, Records() = %v, want no error: %t", repeated, err, again, want)
		}
		if err != nil && (!strings.Contains(err.Error(), "repeated is no count") || !strings.Contains(err.Error(), "; hint: ")) {
			t.Errorf("%d repeats: Recorded() = %v, want an error with a hint", repeated, err)
		}
	}
}

// Of a key that is written twice, two readers could take different values.
func TestKeysAreWrittenOnce(t *testing.T) {
	good := text(t, policiestest.Input())
	for name, test := range map[string]struct{ old, new string }{
		"a fact":           {`"hostPID":false`, `"hostPID":true,"hostPID":false`},
		"a whole object":   {`"pod":{`, `"pod":{"hostPID":true,"hostIPC":false,"hostNetwork":false,"hostUsers":true,"shareProcessNamespace":false,"containers":[]},"pod":{`},
		"a label":          {`"namespaceLabels":{`, `"namespaceLabels":{"kubernetes.io/metadata.name":"x",`},
		"within a list":    {`"kind":"main"`, `"kind":"init","kind":"main"`},
		"with an escape":   {`"hostPID":false`, `"host\u0050ID":true,"hostPID":false`},
		"the whole thing":  {`{"contract":"portcullis/v1"`, `{"requests":[],"contract":"portcullis/v1"`},
		"only its letters": {`"cluster":"test"`, `"cluster":"prod","cluster":"test"`},
	} {
		changed := strings.Replace(good, test.old, test.new, 1)
		if changed == good {
			t.Fatalf("%s: nothing is changed: the test is broken", name)
		}
		_, err := schema(t).Parse([]byte(changed), eval.Clock{})
		e, ok := errors.AsType[*eval.InputError](err)
		if !ok || !strings.Contains(e.Problem, "is written twice") {
			t.Errorf("%s: Parse() = %v, want that it is written twice", name, err)
		}
	}
	line := strings.TrimSpace(record(t, func(*policies.Recorded) {}))
	for _, twice := range []string{`"effect":"deny"`, `"nowNs":1`, `"repeated":7,"repeated":1`} {
		forged := strings.Replace(line, "{", "{"+twice+",", 1)
		if _, err := all(forged); err == nil || !strings.Contains(err.Error(), "is written twice") {
			t.Errorf("%s in front: Records() = %v, want that it is written twice", twice, err)
		}
	}
}

// Lines may come in pieces of any size, and end in any way.
func TestLinesOfAnySize(t *testing.T) {
	line := record(t, func(*policies.Recorded) {})
	long := record(t, func(r *policies.Recorded) { r.Warn = []string{strings.Repeat("w", 300<<10)} }) // longer than any buffer
	file := line + long + strings.ReplaceAll(line, "\n", "\r\n") + "\n\n" + strings.TrimSpace(line)
	for name, got := range map[string]int{"whole": count(t, file, false), "byte by byte": count(t, file, true)} {
		if got != 4 {
			t.Errorf("%s: Recorded() = %d lines, want 4", name, got)
		}
	}
	// The bound is of the line: one byte below it is not too long for its length.
	padded := strings.TrimSpace(line) + strings.Repeat(" ", 1<<20-len(strings.TrimSpace(line))-1) + "\n"
	if err := eval.Recorded(strings.NewReader(padded), func(eval.Line) error { return nil }); err != nil {
		t.Errorf("Recorded() of a line of %d bytes = %v, want no error", len(padded), err)
	}
	if err := eval.Recorded(strings.NewReader(" "+padded), func(eval.Line) error { return nil }); err == nil || !strings.Contains(err.Error(), "after number 0") {
		t.Errorf("Recorded() of a line of %d bytes = %v, want that it is too long", len(padded)+1, err)
	}
}

func count(t *testing.T, file string, slowly bool) (lines int) {
	t.Helper()
	var reader io.Reader = strings.NewReader(file)
	if slowly {
		reader = iotest.OneByteReader(reader)
	}
	seen := int64(0)
	err := eval.Recorded(reader, func(l eval.Line) error {
		lines++
		if l.Number != int64(lines) || l.Bytes <= seen || !l.Kept {
			t.Errorf("line %d: Number = %d, Bytes = %d after %d, Kept = %t", lines, l.Number, l.Bytes, seen, l.Kept)
		}
		seen = l.Bytes
		return nil
	})
	if err != nil || seen != int64(len(file)) {
		t.Errorf("Recorded() = %v, %d bytes, want %d", err, seen, len(file))
	}
	return lines
}

// A decision is whole as JSON: what the engine has said and nothing that a list of
// its own could change.
func TestDecisionsAreCopies(t *testing.T) {
	d := policiestest.Deny(t)
	of := eval.Of(d)
	of.Deny[0].Message = "changed"
	if d.Deny[0].Message == "changed" {
		t.Error("Of() shares its findings with the decision, want a copy")
	}
	allow := eval.Of(policiestest.Allow(t))
	if diff := cmp.Diff([]string{"G-1"}, allow.Grants); diff != "" || allow.Effect != "allow" || allow.NowNS != policiestest.Now || len(allow.Deny) != 0 {
		t.Errorf("Of(allow) = %+v, want the grant, the time and no denial", allow)
	}
}
