package driver_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/driver"
)

func openRecords(t *testing.T, dir string) *driver.Records {
	t.Helper()
	r, err := driver.OpenRecords(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRecordsSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	due := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	want := driver.Record{PodUID: "uid", Volume: "v", Namespace: "ns", Pod: "p", Provider: "local", DueAt: due, DecisionID: "D", Failures: 2, Restored: true,
		Denial: driver.Denial{First: due, Last: due, DecisionID: "D2", Emptying: true, RevokedAt: due, RevokedBy: "D1", Empty: true, Expired: true, Held: true}}
	r := openRecords(t, dir)
	r.Put(want)
	r.Put(driver.Record{PodUID: "gone", Volume: "v"})
	r.Remove("gone", "v")
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = openRecords(t, dir)
	defer r.Close()
	got, ok := r.Get("uid", "v")
	if diff := cmp.Diff(want, got); !ok || diff != "" {
		t.Errorf("record after restart (-want +got):\n%s", diff)
	}
	if _, ok := r.Get("gone", "v"); ok {
		t.Error("a removed record came back")
	}
	if info, err := os.Stat(filepath.Join(dir, "volumes.db")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("volumes.db: %v, %v, want mode 0600", info, err)
	}
}

func TestRecordsStartEmptyWhenDamaged(t *testing.T) {
	for name, content := range map[string][]byte{
		"text":       []byte(strings.Repeat("not a database\n", 1000)),
		"truncated":  {1, 2, 3},
		"zeros":      make([]byte, 64<<10),
		"no records": []byte("\n"),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "volumes.db"), content, 0o600); err != nil {
				t.Fatal(err)
			}
			r := openRecords(t, dir)
			r.Put(driver.Record{PodUID: "uid", Volume: "v"})
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			kept, err := os.ReadFile(filepath.Join(dir, "volumes.db.unreadable"))
			if err != nil || !bytes.Equal(kept, content) {
				t.Errorf("the damaged file was not set aside: %v", err)
			}
		})
	}
}

func TestRecordsOfAFlippedByte(t *testing.T) {
	dir := t.TempDir()
	r := openRecords(t, dir)
	for _, uid := range []string{"a", "b", "c"} {
		r.Put(driver.Record{PodUID: uid, Volume: "v"})
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "volumes.db")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		r := openRecords(t, dir)
		if _, ok := r.Get("a", "v"); ok {
			t.Errorf("byte %d flipped: records were believed", i)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Whatever stands in the way of the file, somebody has to unmount.
func TestP8RecordsOpenWhateverIsInTheWay(t *testing.T) {
	for name, obstruct := range map[string]func(file string) error{
		"a pipe":           func(file string) error { return unix.Mkfifo(file, 0o600) },
		"a directory":      func(file string) error { return os.MkdirAll(filepath.Join(file, "deeper"), 0o700) },
		"a link to itself": func(file string) error { return os.Symlink("volumes.db", file) },
		"nowhere to set it aside": func(file string) error {
			return errors.Join(os.WriteFile(file, []byte("damaged"), 0o600), os.MkdirAll(filepath.Join(file+".unreadable", "deeper"), 0o700))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := obstruct(filepath.Join(dir, "volumes.db")); err != nil {
				t.Fatal(err)
			}
			r := openRecords(t, dir)
			r.Put(driver.Record{PodUID: "uid", Volume: "v"})
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			r = openRecords(t, dir)
			defer r.Close()
			if _, ok := r.Get("uid", "v"); !ok {
				t.Error("what was put is not there after a restart")
			}
		})
	}
}
