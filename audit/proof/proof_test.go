package proof_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
	"github.com/portcullis-csi/portcullis/audit/proof"
)

func prove(t testing.TB, c proof.ProveConfig) []byte {
	t.Helper()
	e, err := proof.Prove(t.Context(), c)
	if err != nil {
		t.Fatalf("Prove(%v%s) = %v, want no error", c.At, c.ID, err)
	}
	text, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestProveAndCheck(t *testing.T) {
	n := newNode(t)
	n.run(t, 0, 1500, false)
	first := n.vkey(t)
	n.run(t, 1500, 1600, true)
	n.run(t, 1600, 1700, false)
	keys := first + n.vkey(t)
	whole := n.checkpoints(t)
	if len(whole) < 3 {
		t.Fatalf("the log has %d epochs, want 3 or more", len(whole))
	}
	for number, e := range whole {
		for _, index := range []int64{0, 1, e.Events / 2, e.Events - 1} {
			at := auditlog.Position{Epoch: number, Index: index}
			text := prove(t, proof.ProveConfig{Path: n.c.Dir, VKey: first, At: at})
			got, err := proof.Check(text, keys)
			if err != nil || got.At != at || got.Origin != e.Origin || got.Size != e.Events || got.Known {
				t.Errorf("Check(evidence of %v) = %+v, %v, want that event", at, got, err)
			}
		}
	}
	text := prove(t, proof.ProveConfig{Path: n.c.Dir, VKey: first, ID: "e000042"})
	if got, err := proof.Check(text, first); err != nil || !bytes.Equal(got.Event, leaf(42)) {
		t.Errorf("Check() = %s, %v, want the exact leaf", got.Event, err)
	}
	last := whole[int64(len(whole))]
	text = prove(t, proof.ProveConfig{Path: n.c.Dir, VKey: first, At: auditlog.Position{Epoch: last.Number}})
	if _, err := proof.Check(text, first); err == nil || !strings.Contains(err.Error(), "not signed by the node's key") {
		t.Errorf("Check(with the key of before) = %v, want it refused", err)
	}
}

func TestProveAgainstAKnownCheckpoint(t *testing.T) {
	n := newNode(t)
	n.run(t, 0, 50, false)
	early := n.checkpoints(t)[1].Checkpoint
	n.run(t, 50, 100, false)
	late := n.checkpoints(t)[1].Checkpoint
	c := proof.ProveConfig{Path: n.c.Dir, VKey: n.vkey(t), Known: [][]byte{append(bytes.Clone(late), early...)}, At: auditlog.Position{Epoch: 1, Index: 20}}
	text := prove(t, c)
	if got, err := proof.Check(text, c.VKey, early); err != nil || !got.Known || got.Size != 51 {
		t.Errorf("Check(known) = %+v, %v, want it against the earlier checkpoint", got, err)
	}
	if _, err := proof.Check(text, c.VKey, late); err == nil || !strings.Contains(err.Error(), "none of the known ones") {
		t.Errorf("Check(another known) = %v, want it refused", err)
	}
	c.Known, c.At.Index = [][]byte{early}, 80
	if _, err := proof.Prove(t.Context(), c); err == nil || !strings.Contains(err.Error(), "no known checkpoint covers event 1/80") {
		t.Errorf("Prove(after the known checkpoint) = %v, want it refused", err)
	}
	other := newNode(t)
	other.run(t, 0, 50, false)
	if _, err := proof.Check(text, c.VKey, other.checkpoints(t)[1].Checkpoint); err == nil {
		t.Error("Check(checkpoint by another key) = nil, want an error")
	}
}

func TestProveRefuses(t *testing.T) {
	n := newNode(t)
	n.run(t, 0, 5, false)
	n.run(t, 3, 4, false) // e000003 is there twice: of two processes
	_, err := proof.Prove(t.Context(), proof.ProveConfig{Path: n.c.Dir, VKey: n.vkey(t), ID: "e000001"})
	if _, ok := errors.AsType[*auditlog.TamperedError](err); !ok {
		t.Errorf("Prove(of a log that does not verify) = %v, want a TamperedError", err)
	}
	n = newNode(t)
	n.run(t, 0, 5, false)
	for _, tt := range []struct {
		c    proof.ProveConfig
		want string
	}{
		{proof.ProveConfig{ID: "e000009"}, `no event with the id "e000009"`},
		{proof.ProveConfig{At: auditlog.Position{Epoch: 1, Index: 99}}, "no event 1/99"},
		{proof.ProveConfig{At: auditlog.Position{Epoch: 2}}, "no event 2/0"},
	} {
		tt.c.Path, tt.c.VKey = n.c.Dir, n.vkey(t)
		if _, err := proof.Prove(t.Context(), tt.c); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Prove(%v %q) = %v, want %q", tt.c.At, tt.c.ID, err, tt.want)
		}
	}
}

// TestP7NoAlteredEvidenceIsBelieved changes evidence in every field, and flips
// every bit of it.
func TestP7NoAlteredEvidenceIsBelieved(t *testing.T) {
	n := newNode(t)
	n.run(t, 0, 40, false)
	good := prove(t, proof.ProveConfig{Path: n.c.Dir, VKey: n.vkey(t), At: auditlog.Position{Epoch: 1, Index: 17}})
	want, err := proof.Check(good, n.vkey(t))
	if err != nil {
		t.Fatal(err)
	}
	change := func(f func(e *proof.Evidence)) []byte {
		var e proof.Evidence
		if err := json.Unmarshal(good, &e); err != nil {
			t.Fatal(err)
		}
		f(&e)
		text, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	replace := func(old, by string) []byte { return bytes.Replace(good, []byte(old), []byte(by), 1) }
	tests := []struct {
		name string
		text []byte
		want string
	}{
		{"the event", change(func(e *proof.Evidence) { e.Event = strings.Replace(e.Event, "mount", "moved", 1) }), "does not lead to the root"},
		{"its place", change(func(e *proof.Evidence) { e.Index++ }), "does not lead to the root"},
		{"a place beyond", change(func(e *proof.Evidence) { e.Index = 41 }), "does not cover"},
		{"a place before", change(func(e *proof.Evidence) { e.Index = -1 }), "does not cover"},
		{"a hash", change(func(e *proof.Evidence) { e.Proof[2][0] ^= 1 }), "does not lead to the root"},
		{"a hash less", change(func(e *proof.Evidence) { e.Proof = e.Proof[1:] }), "does not lead to the root"},
		{"many hashes", change(func(e *proof.Evidence) { e.Proof = slices.Repeat(e.Proof[:1], 64) }), "longer than evidence"},
		{"the origin", change(func(e *proof.Evidence) { e.Origin = origin + "/2" }), "of another log or epoch"},
		{"the size that was signed", change(func(e *proof.Evidence) { e.Checkpoint = strings.Replace(e.Checkpoint, "\n41\n", "\n42\n", 1) }), "not signed by the node's key"},
		{"two checkpoints", change(func(e *proof.Evidence) { e.Checkpoint += e.Checkpoint }), "not one checkpoint alone"},
		{"no checkpoint", change(func(e *proof.Evidence) { e.Checkpoint = "" }), "it is empty"},
		{"the format", change(func(e *proof.Evidence) { e.Format = "v2" }), "its format is not"},
		{"an unknown name", replace(`"index"`, `"note": "true", "index"`), "names that evidence has not"},
		{"a name in another case", replace(`"index"`, `"Index"`), `it has no "index"`},
		{"a name twice", replace(`"index"`, `"event": "{}", "index"`), `it has "event" twice`},
		{"something after it", append(bytes.Clone(good), '{'), "something comes after it"},
		{"half of it", good[:len(good)/2], "not a JSON object"},
		{"nothing", nil, "not a JSON object"},
		{"too much", append(bytes.Clone(good), bytes.Repeat([]byte(" "), proof.MaxEvidenceBytes)...), "longer than"},
	}
	for _, tt := range tests {
		if _, err := proof.Check(tt.text, n.vkey(t)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Check(%s) = %v, want %q", tt.name, err, tt.want)
		}
	}
	for at := range 8 * len(good) {
		text := bytes.Clone(good)
		text[at/8] ^= 1 << (at % 8)
		if got, err := proof.Check(text, n.vkey(t)); err == nil && (!bytes.Equal(got.Event, want.Event) || got.At != want.At) {
			t.Fatalf("Check(bit %d flipped) = %+v, want an error or the same event", at, got)
		}
	}
}

// FuzzCheck reads any bytes as evidence: never a panic, and never another event.
func FuzzCheck(f *testing.F) {
	n := fixedNode(f)
	n.run(f, 0, 9, false)
	key := n.vkey(f)
	want := map[string]bool{}
	for i := range int64(10) {
		at := auditlog.Position{Epoch: n.now().Unix(), Index: i} // its log counts as lost: the key was there
		text := prove(f, proof.ProveConfig{Path: n.c.Dir, VKey: key, At: at})
		c, err := proof.Check(text, key)
		if err != nil {
			f.Fatal(err)
		}
		want[fmt.Sprintf("%v %s", c.At, c.Event)] = true
		f.Add(text)
	}
	f.Add([]byte(`{"format":"portcullis.dev/evidence/v1","origin":"","index":0,"event":"","proof":[],"checkpoint":"a\n1\n\n\n— a b\n"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if c, err := proof.Check(text, key); err == nil && !want[fmt.Sprintf("%v %s", c.At, c.Event)] {
			t.Errorf("Check(%q) = %+v, which is not in the log", text, c)
		}
	})
}
