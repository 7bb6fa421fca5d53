package store_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
	"github.com/portcullis-csi/portcullis/policies/bundle/store"
)

func open(t *testing.T, dir string, step func(string) error) *store.Store {
	t.Helper()
	s, err := store.Open(store.Config{Dir: dir, Step: step})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func state(n int64) store.State {
	return store.State{Floor: store.Mark{Serial: n, Digest: "sha256:x"}, Time: time.Unix(n, 0).UTC(), Emergency: store.Emergency{Mark: store.Mark{Serial: 1}, Over: true}}
}

func kept(text string) store.Kept {
	return store.Kept{Version: "v" + text, Artifact: signature.Artifact{
		Tarball: []byte(text + "\n\x00"), Manifest: []byte("{}"), Signatures: []signature.Signature{{Base64: "eA==", Payload: []byte("p\n")}},
	}}
}

func TestRoundTrip(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	if _, err := s.State(); !store.Absent(err) {
		t.Errorf("State() of a new directory = %v, want that it is absent", err)
	}
	if _, err := s.Bundle(); !store.Absent(err) {
		t.Errorf("Bundle() of a new directory = %v, want that it is absent", err)
	}
	if err := errors.Join(s.KeepState(state(7)), s.KeepBundle(kept("seven"))); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, nil)
	gotState, err := s.State()
	if diff := cmp.Diff(state(7), gotState); err != nil || diff != "" {
		t.Errorf("State() = %v %s", err, diff)
	}
	gotBundle, err := s.Bundle()
	if diff := cmp.Diff(kept("seven"), gotBundle); err != nil || diff != "" {
		t.Errorf("Bundle() = %v %s", err, diff)
	}
	for _, name := range []string{"state.json", "bundle"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode of %s = %v, %v, want 0600", name, info, err)
		}
	}
}

// TestKilledAtEachStep: what is read afterwards is the old or the new, whole.
func TestKilledAtEachStep(t *testing.T) {
	killed := errors.New("killed")
	for die := 0; ; die++ {
		dir := t.TempDir()
		if err := errors.Join(open(t, dir, nil).KeepState(state(1)), open(t, dir, nil).KeepBundle(kept("one"))); err != nil {
			t.Fatal(err)
		}
		steps := 0
		s := open(t, dir, func(string) error {
			if steps++; steps > die {
				return killed
			}
			return nil
		})
		err := s.KeepBundle(kept("two"))
		if err == nil {
			err = s.KeepState(state(2))
		}
		s = open(t, dir, nil)
		gotState, e1 := s.State()
		gotBundle, e2 := s.Bundle()
		if e1 != nil || e2 != nil {
			t.Fatalf("after step %d: %v, %v, want both readable", die, e1, e2)
		}
		if gotState.Floor.Serial == 2 && gotBundle.Version != "vtwo" {
			t.Errorf("after step %d the state is new and the bundle is old", die)
		}
		if err == nil {
			if die < 8 {
				t.Errorf("only %d steps", die)
			}
			return
		}
	}
}

// TestDamage: a flipped bit, a cut and whatever else lies there is refused.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	if err := errors.Join(s.KeepState(state(1)), s.KeepBundle(kept("one"))); err != nil {
		t.Fatal(err)
	}
	read := map[string]func() error{
		"state.json": func() error { _, err := s.State(); return err },
		"bundle":     func() error { _, err := s.Bundle(); return err },
	}
	for name, read := range read {
		path := filepath.Join(dir, name)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range good {
			bad := bytes.Clone(good)
			bad[i] ^= 1
			for _, text := range [][]byte{bad, good[:i]} {
				if err := os.WriteFile(path, text, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := read(); !errors.Is(err, store.ErrDamaged) {
					t.Fatalf("%s damaged at %d = %v, want ErrDamaged", name, i, err)
				}
			}
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("/dev/zero", path); err != nil {
			t.Fatal(err)
		}
		if err := read(); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("%s as a link to a device = %v, want ErrDamaged", name, err)
		}
	}
}

func TestBounds(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	for name, a := range map[string]signature.Artifact{
		"tarball":    {Tarball: make([]byte, 32<<20+1)},
		"manifest":   {Manifest: make([]byte, signature.MaxManifestBytes+1)},
		"signatures": {Signatures: make([]signature.Signature, signature.MaxSignatures+1)},
		"signature":  {Signatures: []signature.Signature{{Bundle: make([]byte, signature.MaxSignatureBytes+1)}}},
	} {
		if err := s.KeepBundle(store.Kept{Artifact: a}); err == nil {
			t.Errorf("KeepBundle(%s too large) = nil, want an error", name)
		}
	}
}

// TestTrials: what is being loaded is on the disk before, and off it after.
func TestTrials(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	if _, err := s.Trials(); !store.Absent(err) {
		t.Errorf("Trials() of a new directory = %v, want that they are absent", err)
	}
	want := store.Trials{"tarball sha256:a": 1, "candidate sha256:b": 3}
	if err := s.KeepTrials(want); err != nil {
		t.Fatal(err)
	}
	if got, err := open(t, dir, nil).Trials(); err != nil || cmp.Diff(want, got) != "" {
		t.Errorf("Trials() = %v, %v, want %v", got, err, want)
	}
	flipped, err := os.ReadFile(filepath.Join(dir, "loading.json"))
	if err != nil {
		t.Fatal(err)
	}
	flipped[len(flipped)-3] ^= 1
	if err := os.WriteFile(filepath.Join(dir, "loading.json"), flipped, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Trials(); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("Trials() of a damaged file = %v, want ErrDamaged", err)
	}
	for range 2 {
		if err := s.KeepTrials(nil); err != nil {
			t.Errorf("KeepTrials(nil) = %v, want nil", err)
		}
	}
	if _, err := s.Trials(); !store.Absent(err) {
		t.Errorf("Trials() after the end = %v, want that they are absent", err)
	}
	many := store.Trials{}
	for i := range 17 {
		many[string(rune('a'+i))] = 1
	}
	if err := s.KeepTrials(many); err == nil {
		t.Error("KeepTrials() of 17 = nil, want an error")
	}
}
