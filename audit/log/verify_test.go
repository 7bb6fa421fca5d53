package log_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

func vkey(t testing.TB, dir string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, auditlog.VKeyFileName))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// verified verifies the log of a directory where no process has it open.
func verified(t testing.TB, dir string) auditlog.Report {
	t.Helper()
	r, err := auditlog.Verify(t.Context(), auditlog.VerifyConfig{Path: filepath.Join(dir, auditlog.EpochFile(1)), VKey: vkey(t, dir)})
	if err != nil {
		t.Fatalf("Verify() = %v, want no error", err)
	}
	return r
}

// verifiedEpoch closes the log and verifies the epoch that was active.
func verifiedEpoch(t testing.TB, dir string, l *auditlog.Log) auditlog.Report {
	t.Helper()
	epochs, err := l.Epochs()
	if err != nil {
		t.Fatalf("Epochs() = %v, want no error", err)
	}
	closeLog(t, l)
	file := filepath.Join(dir, auditlog.EpochFile(epochs[len(epochs)-1].Number))
	r, err := auditlog.Verify(t.Context(), auditlog.VerifyConfig{Path: file, VKey: vkey(t, dir)})
	if err != nil {
		t.Fatalf("Verify(%s) = %v, want no error", file, err)
	}
	return r
}

// verifiedCopy verifies a copy. A copy of a file that is written to is torn at
// times, so it is made again until it verifies.
func verifiedCopy(t testing.TB, dir string) auditlog.Report {
	t.Helper()
	var err error
	for range 50 {
		var r auditlog.Report
		r, err = auditlog.Verify(t.Context(), auditlog.VerifyConfig{Path: copied(t, dir), VKey: vkey(t, dir)})
		if err == nil {
			return r
		}
	}
	t.Fatalf("Verify(copy) = %v, want no error", err)
	return auditlog.Report{}
}

func copied(t testing.TB, dir string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, auditlog.EpochFile(1)))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "copy.db")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// keyName is how a report names the key of a directory.
func keyName(t testing.TB, dir string) string {
	t.Helper()
	parts := strings.SplitN(vkey(t, dir), "+", 3)
	return parts[0] + "+" + parts[1]
}

func key8(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// edit changes a copy as somebody would who knows bbolt.
func edit(f func(tx *bolt.Tx) error) func(t *testing.T, path string) {
	return func(t *testing.T, path string) {
		t.Helper()
		db, err := bolt.Open(path, 0o600, &bolt.Options{NoFreelistSync: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(db.Update(f), db.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// patch changes the bytes of a copy.
func patch(f func(b []byte) []byte) func(t *testing.T, path string) {
	return func(t *testing.T, path string) {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func bucket(tx *bolt.Tx, name string) *bolt.Bucket { return tx.Bucket([]byte(name)) }

func TestP7VerifyFindsTampering(t *testing.T) {
	c := config(t)
	l := open(t, c)
	fill(t, l, 1, 299) // after log.opened
	early, err := l.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	fill(t, l, 300, 300)
	closeLog(t, l)
	other := config(t)
	foreign := open(t, other)
	fill(t, foreign, 1, 599)
	forged, err := foreign.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	closeLog(t, foreign)

	tests := []struct {
		name   string
		tamper func(t *testing.T, path string)
		want   string
	}{
		{"one letter of an event", patch(func(b []byte) []byte {
			return bytes.Replace(b, []byte(`{"id":"e000042"`), []byte(`{"id":"e999942"`), 1)
		}), "does not have the hash"},
		{"an event and its hash", edit(func(tx *bolt.Tx) error {
			return rewrite(tx, 42, []byte(`{"id":"forged"}`))
		}), "does not have the hash"},
		{"the last event removed", edit(func(tx *bolt.Tx) error {
			return errors.Join(bucket(tx, "events").Delete(key8(599)), bucket(tx, "meta").Put([]byte("size"), key8(599)))
		}), "event 599"},
		{"the last event and its hashes removed", edit(func(tx *bolt.Tx) error { return shorten(tx, 599) }), "600 events were signed and 599 are left"},
		{"an event in the middle removed", edit(func(tx *bolt.Tx) error { return bucket(tx, "events").Delete(key8(100)) }), "event 100: is missing"},
		{"two events swapped", edit(func(tx *bolt.Tx) error {
			e := bucket(tx, "events")
			a, b := bytes.Clone(e.Get(key8(7))), bytes.Clone(e.Get(key8(8)))
			return errors.Join(e.Put(key8(7), b), e.Put(key8(8), a))
		}), "does not have the hash"},
		{"a hash changed", edit(func(tx *bolt.Tx) error {
			return bucket(tx, "hashes").Put(key8(5), make([]byte, 32))
		}), "does not have the hash"},
		{"a hash removed", edit(func(tx *bolt.Tx) error { return bucket(tx, "hashes").Delete(key8(5)) }), "does not have the hash"},
		{"the last hash removed", edit(func(tx *bolt.Tx) error {
			k, _ := bucket(tx, "hashes").Cursor().Last()
			return bucket(tx, "hashes").Delete(k)
		}), "hashes are missing"},
		{"a checkpoint signed by another", edit(func(tx *bolt.Tx) error {
			return bucket(tx, "checkpoints").Put(key8(600), forged)
		}), "not signed by the node's key"},
		{"a checkpoint in another's place", edit(func(tx *bolt.Tx) error {
			return bucket(tx, "checkpoints").Put(key8(600), early)
		}), "stands in the place of another"},
		{"all checkpoints removed", edit(func(tx *bolt.Tx) error {
			return errors.Join(tx.DeleteBucket([]byte("checkpoints")), second(tx.CreateBucket([]byte("checkpoints"))))
		}), "no checkpoint is left"},
		{"a bucket removed", edit(func(tx *bolt.Tx) error { return tx.DeleteBucket([]byte("hashes")) }), "bucket hashes is missing"},
		{"another format", edit(func(tx *bolt.Tx) error { return bucket(tx, "meta").Put([]byte("format"), []byte("v9")) }), "format"},
		{"no size", edit(func(tx *bolt.Tx) error { return bucket(tx, "meta").Delete([]byte("size")) }), "size is missing"},
		{"negative size", edit(func(tx *bolt.Tx) error {
			return bucket(tx, "meta").Put([]byte("size"), bytes.Repeat([]byte{0xff}, 8))
		}), "size is missing"},
		{"an event that is no JSON", edit(func(tx *bolt.Tx) error { return bucket(tx, "events").Put(key8(9), []byte("gone")) }), "not a JSON object"},
		{"file cut in half", patch(func(b []byte) []byte { return b[:len(b)/2] }), ""},
		{"file cut to a page", patch(func(b []byte) []byte { return b[:os.Getpagesize()] }), "truncated"},
		{"empty file", patch(func([]byte) []byte { return nil }), "not an audit log"},
		{"other bytes", patch(func(b []byte) []byte { return bytes.Repeat([]byte("text "), len(b)/5) }), "not an audit log"},
		{"both meta pages", patch(func(b []byte) []byte {
			b[20] ^= 1
			b[os.Getpagesize()+20] ^= 1
			return b
		}), "not an audit log"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := copied(t, c.Dir)
			tt.tamper(t, path)
			_, err := auditlog.Verify(t.Context(), auditlog.VerifyConfig{Path: path, VKey: vkey(t, c.Dir)})
			found, ok := errors.AsType[*auditlog.TamperedError](err)
			if !ok || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("Verify() = %v, want a TamperedError with %q", err, tt.want)
			}
			if found.File != path || found.Hint == "" {
				t.Errorf("Verify() = %+v, want the file and a hint", found)
			}
		})
	}
	t.Run("nothing", func(t *testing.T) {
		if r := verified(t, c.Dir); r.Events != 600 || r.Tail != 0 {
			t.Errorf("Verify() = %+v, want 600 events and no tail", r)
		}
	})
}

func second[T any](_ T, err error) error { return err }

// rewrite replaces a leaf and its own hash, but not the hashes above it.
func rewrite(tx *bolt.Tx, n uint64, leaf []byte) error {
	return errors.Join(bucket(tx, "events").Put(key8(n), leaf), bucket(tx, "hashes").Put(key8(storedIndex(n)), recordHash(leaf)))
}

// shorten removes everything that leaf n and those after it added.
func shorten(tx *bolt.Tx, n uint64) error {
	var errs []error
	for _, b := range []struct {
		name string
		from uint64
	}{{"events", n}, {"hashes", storedIndex(n)}} {
		c := bucket(tx, b.name).Cursor()
		for k, _ := c.Seek(key8(b.from)); k != nil; k, _ = c.Seek(key8(b.from)) {
			errs = append(errs, c.Delete())
		}
	}
	return errors.Join(append(errs, bucket(tx, "meta").Put([]byte("size"), key8(n)))...)
}

// TestOpenRefusesTampering shows that the plugin does not start over a log
// that somebody altered, and that damage makes it refuse and not crash.
func TestP7OpenRefusesTampering(t *testing.T) {
	tests := []struct {
		name   string
		tamper func(t *testing.T, path string)
	}{
		{"an event", patch(func(b []byte) []byte { return bytes.Replace(b, []byte("e000042"), []byte("e999942"), 1) })},
		{"the end", edit(func(tx *bolt.Tx) error { return shorten(tx, 10) })},
		{"pages", patch(func(b []byte) []byte {
			for at := 2 * os.Getpagesize(); at < len(b); at += os.Getpagesize() {
				copy(b[at:], bytes.Repeat([]byte{0xa5}, 64))
			}
			return b
		})},
		{"everything", patch(func(b []byte) []byte { return nil })},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := config(t)
			l := open(t, c)
			fill(t, l, 0, 100)
			closeLog(t, l)
			tt.tamper(t, filepath.Join(c.Dir, auditlog.EpochFile(1)))
			l, err := auditlog.Open(c)
			if err == nil {
				l.Close()
			}
			found, ok := errors.AsType[*auditlog.TamperedError](err)
			if !ok || !strings.Contains(found.File, c.Dir) || !strings.Contains(found.Hint, "evidence") {
				t.Errorf("Open() = %v, want a TamperedError with file and remedy", err)
			}
		})
	}
}

func TestVerifyKnownCheckpoints(t *testing.T) {
	c := config(t)
	l := open(t, c)
	fill(t, l, 1, 19)
	early, err := l.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	old := copiedSnapshot(t, l)
	fill(t, l, 20, 20)
	late, err := l.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
	now := filepath.Join(c.Dir, auditlog.EpochFile(1))
	tests := []struct {
		name  string
		path  string
		known []byte
		want  string // "" for no error
	}{
		{"an earlier one", now, early, ""},
		{"the last one", now, late, ""},
		{"rolled back", old, late, "40 events were signed and 20 are left"},
		{"not a checkpoint", now, []byte("hello"), "read checkpoint"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := auditlog.Verify(t.Context(), auditlog.VerifyConfig{Path: tt.path, VKey: vkey(t, c.Dir), Known: [][]byte{tt.known}})
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Verify() = %v, want %q", err, tt.want)
			}
		})
	}
}

func copiedSnapshot(t *testing.T, l *auditlog.Log) string {
	t.Helper()
	var b bytes.Buffer
	if _, err := l.Snapshot(&b); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	unpack(t, &b, dir)
	return filepath.Join(dir, auditlog.EpochFile(1))
}

func TestVerifyWrongKey(t *testing.T) {
	c, other := config(t), config(t)
	l := open(t, c)
	fill(t, l, 0, 3)
	closeLog(t, l)
	closeLog(t, open(t, other))
	elsewhere := config(t)
	elsewhere.Origin = "test/nodes/other"
	closeLog(t, open(t, elsewhere))
	tests := []struct {
		name string
		vkey string
		want string
	}{
		{"same name, another key", vkey(t, other.Dir), "check that the key is the node's own"},
		{"another node's", vkey(t, elsewhere.Dir), "give the node.vkey of the node"},
		{"no key", "", "give the content of node.vkey"},
		{"nonsense", "a+b+c", "give the content of node.vkey"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := auditlog.Verify(t.Context(), auditlog.VerifyConfig{Path: filepath.Join(c.Dir, auditlog.EpochFile(1)), VKey: tt.vkey})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Verify(%.20q) = %v, want an error with %q", tt.vkey, err, tt.want)
			}
		})
	}
}

func TestVerifyRefusesPlaces(t *testing.T) {
	c := config(t)
	l := open(t, c)
	key := vkey(t, c.Dir)
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	verify := func(path string) error {
		_, err := auditlog.Verify(t.Context(), auditlog.VerifyConfig{Path: path, VKey: key})
		return err
	}
	if err := verify(filepath.Join(c.Dir, auditlog.EpochFile(1))); !errors.Is(err, auditlog.ErrLocked) {
		t.Errorf("Verify(live log) = %v, want %v", err, auditlog.ErrLocked)
	}
	closeLog(t, l)
	for _, path := range []string{fifo, t.TempDir()} {
		if _, ok := errors.AsType[*auditlog.DirectoryError](verify(path)); !ok {
			t.Errorf("Verify(%q) = %v, want a DirectoryError", path, verify(path))
		}
	}
	if err := verify(filepath.Join(c.Dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Verify(none) = %v, want %v", err, os.ErrNotExist)
	}
}

func event(id, at, more string) []byte {
	return fmt.Appendf(nil, `{"id":%q,"time":%q%s}`, id, at, more)
}

func TestVerifyReports(t *testing.T) {
	c := config(t)
	l := open(t, c)
	for _, text := range [][]byte{
		event("a", "2026-01-15T12:00:00Z", `,"stage":"intent"`),
		event("b", "2026-01-15T12:00:01Z", `,"stage":"intent"`),
		event("c", "2026-01-15T12:00:02Z", `,"stage":"complete","parentId":"a"`),
		event("d", "2026-01-15T12:09:00Z", `,"stage":"intent"`),
	} {
		if _, err := l.Append(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	_, root, err := l.Tree()
	if err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
	var seen []int64
	got, err := auditlog.Verify(t.Context(), auditlog.VerifyConfig{
		Path: filepath.Join(c.Dir, auditlog.EpochFile(1)), VKey: vkey(t, c.Dir),
		Now:  time.Date(2026, 1, 15, 12, 12, 0, 0, time.UTC),
		Each: func(at auditlog.Position, _ []byte) error { seen = append(seen, at.Index); return nil },
	})
	if err != nil {
		t.Fatalf("Verify() = %v, want no error", err)
	}
	want := auditlog.Report{
		Origin: origin, Events: 5, Signed: 5, Checkpoints: 2, Root: root,
		Epochs: []auditlog.EpochReport{{Number: 1, Origin: origin + "/1", Events: 5, Signed: 5, Checkpoints: 2, Root: root, Key: keyName(t, c.Dir)}},
		From:   leafTime(), To: time.Date(2026, 1, 15, 12, 9, 0, 0, time.UTC),
		OpenIntents: []auditlog.OpenIntent{
			{At: auditlog.Position{Epoch: 1, Index: 2}, ID: "b", Age: 11*time.Minute + 59*time.Second, Overdue: true},
			{At: auditlog.Position{Epoch: 1, Index: 4}, ID: "d", Age: 3 * time.Minute},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Verify() mismatch (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int64{0, 1, 2, 3, 4}, seen); diff != "" {
		t.Errorf("Verify() Each mismatch (-want +got):\n%s", diff)
	}
}

func TestVerifyReportsTheTail(t *testing.T) {
	c := config(t)
	l := open(t, c)
	fill(t, l, 0, 5)
	if _, err := l.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	fill(t, l, 5, 3)
	if r := verifiedCopy(t, c.Dir); r.Events != 9 || r.Tail != 3 {
		t.Errorf("Verify() = %d events, tail %d, want 9 and 3", r.Events, r.Tail)
	}
}

func TestVerifyRefusesTwoEventsOfOneID(t *testing.T) {
	c := config(t)
	l := open(t, c)
	for range 2 {
		if _, err := l.Append(t.Context(), event("a", "2026-01-15T12:00:00Z", "")); err != nil {
			t.Fatal(err)
		}
	}
	closeLog(t, l)
	_, err := auditlog.Verify(t.Context(), auditlog.VerifyConfig{Path: filepath.Join(c.Dir, auditlog.EpochFile(1)), VKey: vkey(t, c.Dir)})
	if found, ok := errors.AsType[*auditlog.TamperedError](err); !ok || found.Index != 2 {
		t.Errorf("Verify() = %v, want a TamperedError at event 2", err)
	}
}

func TestVerifyStops(t *testing.T) {
	c := config(t)
	l := open(t, c)
	fill(t, l, 0, 3)
	closeLog(t, l)
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	_, err := auditlog.Verify(ctx, auditlog.VerifyConfig{
		Path: filepath.Join(c.Dir, auditlog.EpochFile(1)), VKey: vkey(t, c.Dir),
		Progress: func(done, total int64) {
			calls++
			if total != 4 {
				t.Errorf("Progress(%d, %d), want a total of 4", done, total)
			}
			cancel()
		},
	})
	if !errors.Is(err, context.Canceled) || calls != 1 {
		t.Errorf("Verify() = %v after %d calls of Progress, want %v after 1", err, calls, context.Canceled)
	}
}

// TestP7NoChangedByteIsBelieved changes the file at many places, one at a
// time. Free space may change; what Verify accepts must be the same events.
func TestP7NoChangedByteIsBelieved(t *testing.T) {
	c := config(t)
	l := open(t, c)
	fill(t, l, 0, 60)
	closeLog(t, l)
	good, err := os.ReadFile(filepath.Join(c.Dir, auditlog.EpochFile(1)))
	if err != nil {
		t.Fatal(err)
	}
	at, page := metaOf(good)
	good = good[:int(binary.LittleEndian.Uint64(good[at+40:]))*page] // what is in use
	read := func(text []byte) (string, auditlog.Report, error) {
		var events strings.Builder
		report, err := auditlog.VerifyReader(t.Context(), auditlog.VerifyConfig{VKey: vkey(t, c.Dir), Each: func(_ auditlog.Position, leaf []byte) error {
			_, err := events.Write(leaf)
			return err
		}}, bytes.NewReader(text), int64(len(text)))
		return events.String(), report, err
	}
	want, _, err := read(good)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for at := 0; at < len(good); at += 131 {
		text := bytes.Clone(good)
		text[at] ^= 0x20
		got, report, err := read(text)
		switch {
		case err != nil:
			refused++
		case got != want && report.Tail == 0:
			t.Errorf("Verify() with byte %d changed = %+v, want an error or the same events", at, report)
		}
	}
	if refused < 100 {
		t.Errorf("%d of %d changes were refused, want at least 100", refused, len(good)/131)
	}
}
