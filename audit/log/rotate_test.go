package log_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

func verifier(t testing.TB, vkey string) note.Verifier {
	t.Helper()
	v, err := note.NewVerifier(strings.TrimSpace(vkey))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestP7RotatedKeysVouchForEachOther: the end of the epoch names both keys and
// is signed by both, the next one by the new key alone, under load.
func TestP7RotatedKeysVouchForEachOther(t *testing.T) {
	c := config(t)
	l := open(t, c)
	before := vkey(t, c.Dir)
	oldKey := content(t, filepath.Join(c.Dir, auditlog.KeyFileName))
	var group sync.WaitGroup
	for p := range 4 {
		group.Go(func() { fill(t, l, p*100, 50) })
	}
	if err := l.RotateKey(t.Context()); err != nil {
		t.Fatalf("RotateKey() = %v, want no error", err)
	}
	group.Wait()
	after := vkey(t, c.Dir)
	if key := content(t, filepath.Join(c.Dir, auditlog.KeyFileName)); before == after || string(key) == string(oldKey) {
		t.Error("RotateKey() left a key as it was")
	}
	checkpoint, err := l.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]bool{before: false, after: true} {
		if _, err := note.Open(checkpoint, note.VerifierList(verifier(t, key))); (err == nil) != want {
			t.Errorf("the next epoch is signed by %q: %v, want %t", key, err, want)
		}
	}
	closeLog(t, l)
	text := string(content(t, epochFile(c, 1)))
	for _, want := range []string{`"previousKey":"` + strings.TrimSpace(before) + `"`, `"key":"` + strings.TrimSpace(after) + `"`} {
		if !strings.Contains(text, want) {
			t.Errorf("the epoch does not hold %s", want)
		}
	}
	if n := strings.Count(text, "\n\n— "+origin+" "); n == 0 || !strings.Contains(text, "— "+origin+" "+signature(t, text)) {
		t.Errorf("the epoch has %d checkpoints and none with two signatures", n)
	}
	l = open(t, c) // both epochs pass what a start checks
	if diff := cmp.Diff(auditlog.Opening{}, l.Opening()); diff != "" {
		t.Errorf("Opening() mismatch (-want +got):\n%s", diff)
	}
	if got := len(leaves(t, l)); got != 200 {
		t.Errorf("len(Each()) = %d, want 200", got)
	}
}

// signature returns the first signature line that follows another.
func signature(t *testing.T, text string) string {
	t.Helper()
	line := "— " + origin + " "
	for rest := text; ; {
		_, after, found := strings.Cut(rest, line)
		if !found {
			t.Fatal("no checkpoint has two signatures")
		}
		_, next, _ := strings.Cut(after, "\n")
		if s, ok := strings.CutPrefix(next, line); ok {
			s, _, _ = strings.Cut(s, "\n")
			return s
		}
		rest = after
	}
}

// TestP7OpenFollowsTheChainOfKeys over several rotations, and refuses it with a
// link that is none.
func TestP7OpenFollowsTheChainOfKeys(t *testing.T) {
	c := config(t)
	l := open(t, c)
	for i := range 3 {
		rolled(t, l, i*100, 10)
		if err := l.RotateKey(t.Context()); err != nil {
			t.Fatalf("RotateKey() = %v, want no error", err)
		}
	}
	closeLog(t, l)
	l = open(t, c)
	if n := len(epochs(t, l)); n != 10 {
		t.Errorf("len(Epochs()) = %d, want 10", n)
	}
	closeLog(t, l)
	patch(func(b []byte) []byte {
		return []byte(strings.Replace(string(b), `"previousKey":"`+origin+`+`, `"previousKey":"`+strings.ToUpper(origin)+`+`, 1))
	})(t, epochFile(c, 6))
	if l, err := auditlog.Open(c); !isTampered(err) {
		t.Errorf("Open() = %v, %v, want a TamperedError", l, err)
	}
}

func TestRotateKeyOfAClosedLog(t *testing.T) {
	c := config(t)
	l := open(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	closeLog(t, l)
	if err := l.RotateKey(ctx); !errors.Is(err, auditlog.ErrClosed) {
		t.Errorf("RotateKey() = %v, want %v", err, auditlog.ErrClosed)
	}
	cancel()
}

// TestRotateKeyThatFailsLeavesTheOldKey: nothing of the new one stays.
func TestRotateKeyThatFailsLeavesTheOldKey(t *testing.T) {
	c := config(t)
	fail := false
	boundary := c.Boundary
	c.Boundary = func(kind string, state []byte) ([]byte, error) {
		if fail && kind == "log.closed" {
			return nil, errors.New("no such event")
		}
		return boundary(kind, state)
	}
	l := open(t, c)
	fill(t, l, 0, 5)
	before := vkey(t, c.Dir)
	fail = true
	if err := l.RotateKey(t.Context()); err == nil || !strings.Contains(err.Error(), "no such event") {
		t.Errorf("RotateKey() = %v, want the error of the boundary", err)
	}
	fill(t, l, 5, 5)
	if n := len(epochs(t, l)); n != 1 || vkey(t, c.Dir) != before {
		t.Errorf("%d epochs and key %q, want one and the old key", n, vkey(t, c.Dir))
	}
	left, err := filepath.Glob(filepath.Join(c.Dir, "*.new"))
	if err != nil || len(left) > 0 {
		t.Errorf("left over: %q, %v, want nothing", left, err)
	}
	fail = false
	if err := l.RotateKey(t.Context()); err != nil {
		t.Errorf("RotateKey() once more = %v, want no error", err)
	}
	if _, err := os.Stat(filepath.Join(c.Dir, auditlog.KeyFileName+".new")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Stat(node.key.new) = %v, want %v", err, os.ErrNotExist)
	}
}
