package log_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

// TestOpenMakesNoSecondKey: a new key beside an old log would disown it, and
// take the public key that proves it away.
func TestOpenMakesNoSecondKey(t *testing.T) {
	c := config(t)
	closeLog(t, open(t, c))
	before := vkey(t, c.Dir)
	if err := os.Remove(filepath.Join(c.Dir, auditlog.KeyFileName)); err != nil {
		t.Fatal(err)
	}
	_, err := auditlog.Open(c)
	if problem, ok := errors.AsType[*auditlog.DirectoryError](err); !ok || !strings.Contains(problem.Problem, "missing") || !strings.Contains(problem.Remedy, "restore") {
		t.Errorf("Open() = %v, want a DirectoryError with the remedy", err)
	}
	if after := vkey(t, c.Dir); after != before {
		t.Errorf("Open() made %q of %q", after, before)
	}
	if _, err := os.Stat(filepath.Join(c.Dir, auditlog.KeyFileName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Stat(key) = %v, want %v", err, os.ErrNotExist)
	}
}

func TestOpenSaysThatALogIsGone(t *testing.T) {
	tests := []struct {
		name   string
		remove []string
		want   auditlog.Opening
		aside  int // public keys that must be kept
	}{
		{"the log", []string{auditlog.EpochFile(1)}, auditlog.Opening{Created: true, Lost: true}, 0},
		{"the log and the key", []string{auditlog.EpochFile(1), auditlog.KeyFileName}, auditlog.Opening{Created: true, Lost: true}, 1},
		{"everything", []string{auditlog.EpochFile(1), auditlog.KeyFileName, auditlog.VKeyFileName}, auditlog.Opening{Created: true}, 0},
		{"the public key", []string{auditlog.VKeyFileName}, auditlog.Opening{}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := config(t)
			closeLog(t, open(t, c))
			before := vkey(t, c.Dir)
			for _, name := range tt.remove {
				if err := os.Remove(filepath.Join(c.Dir, name)); err != nil {
					t.Fatal(err)
				}
			}
			l := open(t, c)
			if diff := cmp.Diff(tt.want, l.Opening()); diff != "" {
				t.Errorf("Opening() mismatch (-want +got):\n%s", diff)
			}
			if r := verifiedEpoch(t, c.Dir, l); r.Events != 1 {
				t.Errorf("Verify().Events = %d, want 1", r.Events)
			}
			if kept := aside(t, c.Dir); len(kept) != tt.aside || tt.aside == 1 && kept[0] != strings.TrimSpace(before) && kept[0] != before {
				t.Errorf("public keys set aside = %q, want %d of %q", kept, tt.aside, before)
			}
		})
	}
}

// aside returns the public keys that were set aside.
func aside(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, auditlog.VKeyFileName+".*"))
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	for _, name := range files {
		kept = append(kept, string(content(t, name)))
	}
	return kept
}

// TestOpenKeepsEveryPublicKey: one that is not of the key may be the proof of
// an earlier log, so it is moved and never written over.
func TestOpenKeepsEveryPublicKey(t *testing.T) {
	c := config(t)
	closeLog(t, open(t, c))
	want := vkey(t, c.Dir)
	others := []string{"a+00000000+AAAA\n", "b+00000000+AAAA\n", "a+00000000+AAAA\n"}
	for _, text := range others {
		if err := os.WriteFile(filepath.Join(c.Dir, auditlog.VKeyFileName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		closeLog(t, open(t, c))
		if got := vkey(t, c.Dir); got != want {
			t.Errorf("public key after %q = %q, want %q", text, got, want)
		}
	}
	kept := strings.Join(aside(t, c.Dir), "")
	if len(aside(t, c.Dir)) != 2 || !strings.Contains(kept, others[0]) || !strings.Contains(kept, others[1]) {
		t.Errorf("public keys set aside = %q, want %q and %q", kept, others[0], others[1])
	}
}
