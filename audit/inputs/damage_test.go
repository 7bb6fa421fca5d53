package inputs_test

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/portcullis-csi/portcullis/audit/inputs"
)

// written makes a store with a few things in it, and returns its one file.
func written(t testing.TB) (dir, path string, ids []string) {
	t.Helper()
	dir = directory(t)
	s := open(t, dir)
	for i := range 5 {
		ids = append(ids, keep(s, text(i)))
	}
	s.KeepBundle(bundleOf(text(9)), text(9))
	closed(t, s)
	return dir, filepath.Join(dir, "inputs-0000000001.seg"), ids
}

// TestDamageIsNeverGivenBack flips each byte of a file in turn.
func TestDamageIsNeverGivenBack(t *testing.T) {
	dir, path, ids := written(t)
	whole, err := os.ReadFile(path)
	must(t, err)
	lost, set := 0, 0
	for at := range whole {
		damaged := bytes.Clone(whole)
		damaged[at] ^= 0x10
		must(t, os.WriteFile(path, damaged, 0o600))
		s := read(t, dir)
		for i, id := range ids {
			got, err := s.Input(id)
			if err != nil {
				lost++
			} else if !bytes.Equal(got, text(i)) {
				t.Fatalf("Input(%d) with byte %d flipped = %q, want an error or what was kept", i, at, got)
			}
		}
		if got, err := s.Bundle(bundleOf(text(9))); err == nil && !bytes.Equal(got, text(9)) {
			t.Fatalf("Bundle() with byte %d flipped is another", at)
		}
		if s.Stats().Inputs == 0 {
			set++
		}
		must(t, s.Close())
	}
	if lost < len(whole) {
		t.Errorf("%d flips lost %d inputs, want at least one each", len(whole), lost)
	}
	if set == len(whole) {
		t.Error("every flip loses all, want most to lose one")
	}
}

func TestDamagedFilesAreSetAside(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(t *testing.T, path string)
	}{
		{"another first line", func(t *testing.T, path string) {
			must(t, os.WriteFile(path, []byte("SQLite format 3\x00 and so on"), 0o600))
		}},
		{"no record", func(t *testing.T, path string) {
			must(t, os.WriteFile(path, append([]byte(inputs.FirstLine), make([]byte, 100)...), 0o600))
		}},
		{"a FIFO", func(t *testing.T, path string) {
			must(t, os.Remove(path))
			must(t, syscall.Mkfifo(path, 0o600))
		}},
		{"a link", func(t *testing.T, path string) {
			must(t, os.Remove(path))
			must(t, os.Symlink("/dev/zero", path))
		}},
		{"a directory", func(t *testing.T, path string) {
			must(t, os.Remove(path))
			must(t, os.Mkdir(path, 0o700))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir, path, ids := written(t)
			tt.spoil(t, path)
			s := open(t, dir)
			if _, err := s.Input(ids[0]); err == nil {
				t.Error("Input() = nil, want an error")
			}
			id := keep(s, text(77))
			closed(t, s)
			if _, err := os.Lstat(filepath.Join(dir, inputs.SetAsideName)); err != nil {
				t.Errorf("the file is not set aside: %v", err)
			}
			if _, err := read(t, dir).Input(id); err != nil {
				t.Errorf("Input() of what was kept afterwards = %v, want no error", err)
			}
		})
	}
}

// TestACrashLosesTheTail: what is before it is there.
func TestACrashLosesTheTail(t *testing.T) {
	dir, path, ids := written(t)
	whole, err := os.ReadFile(path)
	must(t, err)
	for size := 0; size < len(whole); size += 7 {
		must(t, os.WriteFile(path, whole[:size], 0o600))
		s := open(t, dir)
		complete := (size - len(inputs.FirstLine)) / (72 + len(text(0)))
		for i, id := range ids {
			if _, err := s.Input(id); (err == nil) != (i < complete) {
				t.Errorf("Input(%d) of a file of %d bytes = %v", i, size, err)
			}
		}
		closed(t, s)
		if _, err := os.Stat(filepath.Join(dir, inputs.SetAsideName)); err == nil {
			t.Fatalf("a file of %d bytes is set aside", size)
		}
	}
}

// TestAReaderChangesNothing: somebody else may be writing.
func TestAReaderChangesNothing(t *testing.T) {
	dir, path, _ := written(t)
	must(t, os.WriteFile(path, []byte("nonsense that is long enough"), 0o600))
	s := read(t, dir)
	keep(s, text(1))
	must(t, s.Close())
	entries, err := os.ReadDir(dir)
	must(t, err)
	if got, _ := os.ReadFile(path); len(entries) != 1 || string(got) != "nonsense that is long enough" {
		t.Errorf("%v is in the directory, and the file is %q", entries, got)
	}
}

func TestFilesArePrivate(t *testing.T) {
	dir, path, _ := written(t)
	for name, want := range map[string]os.FileMode{dir: os.ModeDir | 0o700, path: 0o600} {
		if info, err := os.Stat(name); err != nil || info.Mode() != want {
			t.Errorf("mode of %s = %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
}

func FuzzFile(f *testing.F) {
	_, path, _ := written(f)
	whole, err := os.ReadFile(path)
	must(f, err)
	f.Add(whole)
	f.Add([]byte(inputs.FirstLine))
	f.Add(whole[:100])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		from, to, _ := inputs.Heads(b)
		end := int64(len(inputs.FirstLine))
		for i := range from {
			if from[i] < end+72 || to[i] < from[i] || to[i] > int64(len(b)) {
				t.Fatalf("thing %d lies at %d to %d, behind %d and within %d", i, from[i], to[i], end, len(b))
			}
			end = to[i]
		}
	})
}
