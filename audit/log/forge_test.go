package log_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// forged writes events of somebody's own from index n on, with hashes that
// fit, and drops the checkpoints that would tell: all that needs no key.
func forged(n, end int64, leaf func(i int64) []byte) func(t *testing.T, path string) {
	return edit(func(tx *bolt.Tx) error {
		errs := []error{shorten(tx, uint64(n)), dropCheckpoints(tx, n), bucket(tx, "meta").Put([]byte("size"), key8(uint64(end)))}
		reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
			var list []tlog.Hash
			for _, i := range indexes {
				list = append(list, tlog.Hash(bucket(tx, "hashes").Get(key8(uint64(i)))))
			}
			return list, nil
		})
		for i := n; i < end; i++ {
			text := leaf(i)
			hashes, err := tlog.StoredHashes(i, text, reader)
			errs = append(errs, err, bucket(tx, "events").Put(key8(uint64(i)), text))
			for j, h := range hashes {
				errs = append(errs, bucket(tx, "hashes").Put(key8(storedIndex(uint64(i))+uint64(j)), h[:]))
			}
		}
		return errors.Join(errs...)
	})
}

// dropCheckpoints removes those over more than n events.
func dropCheckpoints(tx *bolt.Tx, n int64) error {
	c := bucket(tx, "checkpoints").Cursor()
	var errs []error
	for k, _ := c.Seek(key8(uint64(n) + 1)); k != nil; k, _ = c.Seek(key8(uint64(n) + 1)) {
		errs = append(errs, c.Delete())
	}
	return errors.Join(errs...)
}

// at is an event i steps after noon.
func at(step time.Duration) func(i int64) []byte {
	noon := time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC)
	return func(i int64) []byte {
		return event(fmt.Sprintf("forged-%d", i), noon.Add(time.Duration(i)*step).Format(time.RFC3339Nano), "")
	}
}

// TestP7ForgedWithoutTheKey forges logs as whoever can write the file but not
// read the key. What is refused must not be signed by the next start either.
func TestP7ForgedWithoutTheKey(t *testing.T) {
	const signed, end = auditlog.MaxTail, 2 * auditlog.MaxTail
	tests := []struct {
		name   string
		tamper func(t *testing.T, path string)
		want   string // "" if it is within what a crash leaves
	}{
		{"everything", forged(0, end, at(time.Millisecond)), "no checkpoint is left"},
		{"everything but the first", forged(1, end, at(time.Millisecond)), "are not signed"},
		{"everything, and few", forged(0, 3, at(time.Millisecond)), "no checkpoint is left"},
		{"everything after a checkpoint", forged(signed, end, at(time.Millisecond)), "are not signed"},
		{"few, over an hour", forged(signed, signed+60, at(time.Minute)), "event 256: it and the 59 after it are not signed"},
		{"two, out of order", forged(signed, signed+2, at(-time.Hour)), "are not signed"},
		{"one long event", forged(signed, signed+1, func(int64) []byte {
			return event("a", "2026-01-15T12:00:00Z", `,"pad":"`+strings.Repeat("x", auditlog.MaxLeafBytes)+`"`)
		}), "event 256: is longer"},
		{"a short tail", forged(signed, signed+9, at(time.Millisecond)), ""},
	}
	c := config(t)
	l := open(t, c)
	for i := int64(1); i < end; i++ { // one by one, after log.opened: a checkpoint after each 256
		if _, err := l.Append(t.Context(), leaf(int(i))); err != nil {
			t.Fatal(err)
		}
		if i+1 == signed {
			if _, err := l.Checkpoint(); err != nil {
				t.Fatal(err)
			}
		}
	}
	closeLog(t, l)
	file := filepath.Join(c.Dir, auditlog.EpochFile(1))
	good := content(t, file)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.WriteFile(file, good, 0o600); err != nil {
				t.Fatal(err)
			}
			tt.tamper(t, file)
			report, err := auditlog.Verify(t.Context(), auditlog.VerifyConfig{Path: file, VKey: vkey(t, c.Dir)})
			if tt.want == "" {
				if err != nil || report.Signed != signed || report.Tail != 9 {
					t.Fatalf("Verify() = %+v, %v, want %d events signed and 9 not", report, err, signed)
				}
				return
			}
			if _, ok := errors.AsType[*auditlog.TamperedError](err); !ok || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Verify() = %v, want a TamperedError with %q", err, tt.want)
			}
			before := content(t, file)
			if l, err := auditlog.Open(c); err == nil || !strings.Contains(err.Error(), "was altered") {
				t.Errorf("Open() = %v, %v, want a TamperedError", l, err)
			}
			if !bytes.Equal(before, content(t, file)) {
				t.Error("Open() changed the file that it refused")
			}
		})
	}
}

// TestP7TheTailStaysShort: what Verify refuses is never left by a crash, also
// where the clock's checkpoints never come, and with events from any time.
func TestP7TheTailStaysShort(t *testing.T) {
	tests := []struct {
		name string
		n    int
		step time.Duration
		most int64 // unsigned at any time
	}{
		{"many at once", 3 * auditlog.MaxTail, time.Microsecond, auditlog.MaxTail - 1},
		{"hours apart", 20, time.Hour, 1},
		{"clock going backwards", 20, -time.Hour, 1},
		{"half a minute apart", 20, 30 * time.Second, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := config(t)
			l := open(t, c)
			longest := int64(0)
			for i := range tt.n {
				if _, err := l.Append(t.Context(), at(tt.step)(int64(i))); err != nil {
					t.Fatal(err)
				}
				if i > 20 && i%50 != 0 && i%auditlog.MaxTail > 2 {
					continue
				}
				longest = max(longest, verifiedCopy(t, c.Dir).Tail)
			}
			if longest > tt.most {
				t.Errorf("the tail was up to %d events, want at most %d", longest, tt.most)
			}
		})
	}
}

// TestACrashIsOpenedAndSaid: the tail that kill -9 leaves is taken, counted,
// and signed.
func TestACrashIsOpenedAndSaid(t *testing.T) {
	c := config(t)
	l := open(t, c)
	if diff := cmp.Diff(auditlog.Opening{Created: true}, l.Opening()); diff != "" {
		t.Errorf("Opening() of a first start mismatch (-want +got):\n%s", diff)
	}
	fill(t, l, 1, 4)
	crashed := content(t, filepath.Join(c.Dir, auditlog.EpochFile(1)))
	closeLog(t, l)
	if err := os.WriteFile(filepath.Join(c.Dir, auditlog.EpochFile(1)), crashed, 0o600); err != nil {
		t.Fatal(err)
	}
	want := "the first 1 of 5 events of " + origin + "/1, none altered, removed or reordered; WARNING: the last 4 are not signed"
	if r := verified(t, c.Dir); !strings.HasPrefix(r.Verdict(), want) {
		t.Errorf("Verdict() = %q, want %q first", r.Verdict(), want)
	}
	l = open(t, c)
	if diff := cmp.Diff(auditlog.Opening{Unsigned: 4}, l.Opening()); diff != "" {
		t.Errorf("Opening() after a crash mismatch (-want +got):\n%s", diff)
	}
	closeLog(t, l)
	if got, want := verified(t, c.Dir).Verdict(), "5 events of "+origin+"/1, none altered, removed or reordered; "; !strings.HasPrefix(got, want) {
		t.Errorf("Verdict() = %q, want %q", got, want)
	}
	if diff := cmp.Diff(auditlog.Opening{}, open(t, c).Opening()); diff != "" {
		t.Errorf("Opening() after Close mismatch (-want +got):\n%s", diff)
	}
}

// TestAKnownCheckpointSigns counts what a checkpoint from elsewhere covers as
// signed.
func TestAKnownCheckpointSigns(t *testing.T) {
	c := config(t)
	l := open(t, c)
	fill(t, l, 1, 4)
	path := copied(t, c.Dir)
	known, err := l.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	r, err := auditlog.Verify(t.Context(), auditlog.VerifyConfig{Path: path, VKey: vkey(t, c.Dir), Known: [][]byte{known}})
	if err != nil || r.Signed != 5 || r.Tail != 0 {
		t.Errorf("Verify() = %+v, %v, want all 5 events signed", r, err)
	}
}

// metaOf returns the offset of the newest meta page's body, and the page size.
func metaOf(b []byte) (at, pageSize int) {
	pageSize = int(binary.LittleEndian.Uint32(b[16+8:]))
	txid := func(at int) uint64 { return binary.LittleEndian.Uint64(b[at+48:]) }
	if at = 16; txid(pageSize+16) > txid(16) {
		at = pageSize + 16
	}
	return at, pageSize
}

// sum makes the checksum of a meta page's body fit.
func sum(body []byte) {
	h := fnv.New64a()
	h.Write(body[:56])
	binary.LittleEndian.PutUint64(body[56:], h.Sum64())
}

// TestP7OpenReadsWhatItExamined forges files which one reader takes for one
// thing and bbolt for another.
func TestP7OpenReadsWhatItExamined(t *testing.T) {
	le := binary.LittleEndian
	tests := []struct {
		name   string
		tamper func(b []byte) []byte
	}{
		// bbolt would write new events over the pages of old ones, or panic.
		{"a list of free pages that are in use", func(b []byte) []byte {
			at, size := metaOf(b)
			end := int(le.Uint64(b[at+40:]))
			list := make([]byte, size)
			le.PutUint64(list, uint64(end))
			le.PutUint16(list[8:], 0x10)
			le.PutUint16(list[10:], uint16(end-2))
			for i := range end - 2 {
				le.PutUint64(list[16+8*i:], uint64(i+2))
			}
			b = append(b[:end*size:end*size], list...)
			le.PutUint64(b[at+32:], uint64(end))
			le.PutUint64(b[at+40:], uint64(end)+1)
			sum(b[at:])
			return b
		}},
		// bbolt does not ask what a meta page's header says.
		{"a newer state under a page of another type", func(b []byte) []byte {
			at, size := metaOf(b)
			other := size + 16 + 16 - at
			copy(b[other:other+64], b[at:])
			le.PutUint64(b[other+48:], le.Uint64(b[at+48:])+1)
			sum(b[other:])
			le.PutUint16(b[other-8:], 2)
			return b
		}},
		{"a page size that is none", func(b []byte) []byte {
			le.PutUint32(b[16+8:], 3000)
			sum(b[16:])
			return b
		}},
		{"two page sizes", func(b []byte) []byte {
			at, _ := metaOf(b)
			le.PutUint32(b[at+8:], 1<<13)
			sum(b[at:])
			return b
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := config(t)
			l := open(t, c)
			fill(t, l, 0, 200)
			closeLog(t, l)
			file := filepath.Join(c.Dir, auditlog.EpochFile(1))
			patch(tt.tamper)(t, file)
			_, verified := auditlog.Verify(t.Context(), auditlog.VerifyConfig{Path: file, VKey: vkey(t, c.Dir)})
			_, opened := auditlog.Open(c)
			for name, err := range map[string]error{"Verify": verified, "Open": opened} {
				if _, ok := errors.AsType[*auditlog.TamperedError](err); !ok {
					t.Errorf("%s() = %v, want a TamperedError", name, err)
				}
			}
		})
	}
}

// TestOpenSignsOnlyWhatItExamined: whatever made bbolt see another state.
func TestOpenSignsOnlyWhatItExamined(t *testing.T) {
	c := config(t)
	l := open(t, c)
	fill(t, l, 1, 2)
	if _, ok := errors.AsType[*auditlog.TamperedError](l.AdoptOther()); !ok {
		t.Error("adopt() of another state = nil, want a TamperedError")
	}
	if r := verifiedCopy(t, c.Dir); r.Signed != 1 || r.Tail != 2 {
		t.Errorf("Verify() = %d signed, %d not, want 1 and 2", r.Signed, r.Tail)
	}
}

// TestVerifyOfASparseFile names pages of 64 GiB, which nobody may allocate.
func TestVerifyOfASparseFile(t *testing.T) {
	c := config(t)
	l := open(t, c)
	fill(t, l, 0, 3)
	closeLog(t, l)
	const size = 64 << 30
	path := copied(t, c.Dir)
	patch(func(b []byte) []byte {
		at, page := metaOf(b)
		root, pages := binary.LittleEndian.Uint64(b[at+16:]), uint64(size/page)
		binary.LittleEndian.PutUint64(b[at+40:], pages)
		sum(b[at:])
		binary.LittleEndian.PutUint32(b[int(root)*page+12:], uint32(pages-root-1))
		return b
	})(t, path)
	if err := os.Truncate(path, size); err != nil {
		hardeningtest.Missing(t, fmt.Sprintf("no sparse files here: %v", err))
	}
	_, err := auditlog.Verify(t.Context(), auditlog.VerifyConfig{Path: path, VKey: vkey(t, c.Dir)})
	if found, ok := errors.AsType[*auditlog.TamperedError](err); !ok || !strings.Contains(found.What, "structure is damaged") {
		t.Errorf("Verify() = %v, want a TamperedError about the structure", err)
	}
}

// TestOpenSurvivesAPanic: package bbolt panics over what it does not expect.
func TestOpenSurvivesAPanic(t *testing.T) {
	var none map[string]int
	err := auditlog.Guarded(config(t), func() error {
		none["a"] = 1
		return nil
	})
	if found, ok := errors.AsType[*auditlog.TamperedError](err); !ok || found.File == "" || found.Hint == "" {
		t.Errorf("guarded() = %v, want a TamperedError with file and hint", err)
	}
	want := errors.New("of its own")
	if err := auditlog.Guarded(config(t), func() error { return want }); !errors.Is(err, want) {
		t.Errorf("guarded() = %v, want %v", err, want)
	}
}
