package policies_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/policies"
)

func TestPlaceString(t *testing.T) {
	for want, p := range map[string]policies.Place{
		"":         {},
		"a.yaml":   {File: "a.yaml"},
		"b.yaml":   {File: "b.yaml", Column: 3},
		"a:7":      {File: "a", Line: 7},
		"a:7:3":    {File: "a", Line: 7, Column: 3},
		"c d:12:1": {File: "c d", Line: 12, Column: 1},
	} {
		if got := p.String(); got != want {
			t.Errorf("%#v = %q, want %q", p, got, want)
		}
	}
}

// TestFileErrorsAreSortedAndCounted: in the order of files and lines, twenty of
// them, and their causes can still be asked for.
func TestFileErrorsAreSortedAndCounted(t *testing.T) {
	cause := errors.New("the cause")
	var list policies.FileErrors
	if err := list.Err(); err != nil {
		t.Errorf("Err() of nothing = %v, want nil", err)
	}
	for i := range 30 {
		list = append(list, &policies.FileError{Place: policies.Place{File: fmt.Sprint("f", i%2), Line: 30 - i, Column: 1}, Path: "p", Problem: "wrong", Hint: "mend it", Err: cause})
	}
	err := list.Err()
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 21 || lines[0] != "f0:2:1: p: wrong; hint: mend it" || lines[15] != "f1:1:1: p: wrong; hint: mend it" || !strings.HasPrefix(lines[20], "10 more errors") {
		t.Errorf("Err() = %v, want 20 errors in order and the count of the others", err)
	}
	if !errors.Is(err, cause) {
		t.Errorf("Err() = %v, want the cause in it", err)
	}
	if list[0].Place.Line != 30 {
		t.Error("Err() sorted its receiver")
	}
}

// TestPartsWithoutAPlace: a bundle that no reader made has errors as before.
func TestPartsWithoutAPlace(t *testing.T) {
	b := valid()
	config("required_checks", []string{"lost"})(&b)
	_, err := policies.Compile(t.Context(), b, options())
	if _, listed := errors.AsType[policies.FileErrors](err); listed || !strings.HasPrefix(err.Error(), "config required_checks[0]: check") {
		t.Errorf("Compile() = %v, want the *BundleError alone", err)
	}
	b.Places = map[string]policies.Place{"config required_checks": {File: "data.yaml", Line: 3}}
	_, err = policies.Compile(t.Context(), b, options())
	if err == nil || !strings.HasPrefix(err.Error(), "data.yaml:3: config required_checks[0]: check") {
		t.Errorf("Compile() = %v, want the place of the part that holds it", err)
	}
	config("required_checks", []string{"lost", "gone"})(&b)
	b.Places = nil
	_, err = policies.Compile(t.Context(), b, options())
	if list, ok := errors.AsType[policies.FileErrors](err); !ok || len(list) != 2 {
		t.Errorf("Compile() = %v, want both errors", err)
	}
}
