package log_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

// onFile applies a change of one file to an epoch of a directory.
func onFile(n int64, change func(t *testing.T, path string)) func(*testing.T, string) {
	return func(t *testing.T, dir string) { t.Helper(); change(t, epochPath(dir, n)) }
}

func removed(n int64) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		if err := os.Remove(epochPath(dir, n)); err != nil {
			t.Fatal(err)
		}
	}
}

// replaced puts another epoch's file in the place of one.
func replaced(n int64, d *draft) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		removed(n)(t, dir)
		d.write(t, epochPath(dir, n))
	}
}

// TestP7EpochsTamperTable does to a log of four epochs what somebody could who
// can write its directory, with and without the node's key.
func TestP7EpochsTamperTable(t *testing.T) {
	p := newPen(t, origin)
	drafts := chained(t, p, 4, 60)
	good := written(t, drafts...)
	again := chained(t, p, 4, 59) // newly signed by whoever has the key
	stranger := newPen(t, origin)
	foreign := chained(t, stranger, 4, 60)
	neighbour := chained(t, newPen(t, "test/nodes/other"), 2, 60)
	last := drafts[3].last(t)
	swap := func(a, b []byte) func(*testing.T, string) {
		return patch(func(text []byte) []byte {
			i, j := bytes.Index(text, a), bytes.Index(text, b)
			copy(text[i:], b)
			copy(text[j:], a)
			return text
		})
	}
	tests := []struct {
		name       string
		tamper     func(t *testing.T, dir string)
		known      []byte
		file, want string
	}{
		{"one letter of an event", onFile(2, patch(func(b []byte) []byte {
			return bytes.Replace(b, []byte(`"e2-000042"`), []byte(`"e2-999942"`), 1)
		})), nil, "0002.db", "event 43: does not have the hash"},
		{"an event removed", onFile(2, edit(func(tx *bolt.Tx) error { return bucket(tx, "events").Delete(key8(43)) })), nil, "0002.db", "event 43: is missing"},
		{"two events swapped", onFile(2, swap([]byte("e2-000007"), []byte("e2-000008"))), nil, "0002.db", "event 8: does not have the hash"},
		{"the last epoch cut", onFile(4, edit(func(tx *bolt.Tx) error { return shorten(tx, 20) })), nil, "0004.db", "events were signed and 20 are left"},
		{"an ended epoch cut, with its checkpoints", onFile(2, edit(func(tx *bolt.Tx) error {
			return errors.Join(shorten(tx, 31), dropCheckpoints(tx, 31))
		})), nil, "0002.db", "it is marked as ended, and its last event does not say so"},
		{"and its mark", onFile(2, edit(func(tx *bolt.Tx) error {
			return errors.Join(shorten(tx, 31), dropCheckpoints(tx, 31), bucket(tx, "meta").Delete([]byte("closed")))
		})), nil, "0002.db", "it was not ended, and epoch 3 follows it"},
		{"the mark alone", onFile(2, edit(func(tx *bolt.Tx) error { return bucket(tx, "meta").Delete([]byte("closed")) })), nil, "0002.db", "it was not ended"},
		{"the last epoch marked as ended", onFile(4, edit(func(tx *bolt.Tx) error { return bucket(tx, "meta").Put([]byte("closed"), []byte{1}) })), nil, "0004.db", "its last event does not say so"},
		{"a file cut in half", onFile(2, patch(func(b []byte) []byte { return b[:len(b)/2] })), nil, "0002.db", "the file is truncated"},
		{"the middle epoch removed", removed(2), nil, "0002.db", "it is missing: epoch 3 follows it"},
		{"two epochs removed", func(t *testing.T, dir string) { removed(2)(t, dir); removed(3)(t, dir) }, nil, "0003.db", "it is missing: epoch 4 follows it"},
		{"the last epoch removed", removed(4), nil, "0004.db", "it is missing: the one before it has ended"},
		{"the last epoch removed, and a file made to look like the next", func(t *testing.T, dir string) {
			removed(4)(t, dir)
			foreign[3].write(t, epochPath(dir, 4)+".new")
		}, nil, "0004.db.new", "not signed by the node's key"},
		{"two files swapped", func(t *testing.T, dir string) {
			replaced(2, drafts[2])(t, dir)
			replaced(3, drafts[1])(t, dir)
		}, nil, "0002.db", "it is epoch 3 under the name of epoch 2"},
		{"an epoch of another node", replaced(2, neighbour[1]), nil, "0002.db", "the log of another node than the key's"},
		{"an epoch of another log by the same key", replaced(2, again[1]), nil, "0002.db", "does not follow epoch 1 as it is here"},
		{"an epoch signed by another key", replaced(2, foreign[1]), nil, "0002.db", "not signed by the node's key"},
		{"all signed by another key", func(t *testing.T, dir string) {
			for i, d := range foreign {
				replaced(int64(i)+1, d)(t, dir)
			}
		}, nil, "0001.db", "not signed by the node's key"},
		{"put back to before the last events", replaced(4, begin(t, p, 4, drafts[2].whole(t), 30)), last, "0004.db", "61 events were signed and 31 are left"},
		{"put back to an epoch before", func(t *testing.T, dir string) {
			removed(4)(t, dir)
			open := begin(t, p, 3, drafts[1].whole(t), 60)
			replaced(3, open)(t, dir)
		}, last, "0003.db", "61 events of epoch 4 were signed, and epoch 3 is the last one here: this is an older log"},
		{"newly signed with the node's key", func(t *testing.T, dir string) {
			for i, d := range again {
				replaced(int64(i)+1, d)(t, dir)
			}
		}, drafts[1].checkpoint(t, 50, p.signer), "0002.db", "the first 50 events are not those that were signed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := clone(t, good)
			tt.tamper(t, dir)
			var known [][]byte
			if tt.known != nil {
				known = append(known, tt.known)
			}
			_, err := verify(t, dir, p.vkey, known...)
			refused(t, err, tt.file, tt.want)
		})
	}
	dir := clone(t, good)
	removed(1)(t, dir)
	if r, err := verify(t, dir, p.vkey); err != nil || r.Deleted != 1 || !strings.Contains(r.Verdict(), "epochs up to 1 are deleted, by retention or by hand") {
		t.Errorf("Verify() without the oldest = %+v, %v, want that said", r, err)
	}
}

// TestP7NoFlippedBitIsBelieved flips single bits in every kind of page of a file
// large enough to have branch pages, and all over it: refused, or the same
// events, since some bits are in free space.
func TestP7NoFlippedBitIsBelieved(t *testing.T) {
	p := newPen(t, origin)
	d := begin(t, p, 1, nothing(t), 200)
	path := filepath.Join(t.TempDir(), "epoch.db")
	d.write(t, path)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	for _, leaf := range d.leaves {
		want.Write(leaf)
	}
	verdict := func(text []byte) (err error, same bool) {
		var got bytes.Buffer
		_, err = auditlog.VerifyReader(t.Context(), auditlog.VerifyConfig{VKey: p.vkey, Each: func(_ auditlog.Position, leaf []byte) error {
			got.Write(leaf)
			return nil
		}}, bytes.NewReader(text), int64(len(text)))
		return err, bytes.Equal(got.Bytes(), want.Bytes())
	}
	page := os.Getpagesize()
	kinds, refused := map[string]int{}, map[string]int{}
	random := rand.New(rand.NewPCG(1, 2))
	for at := 0; at+page <= len(good); at += page {
		kind := pageKind(good[at:])
		for range 10 {
			bit := random.IntN(8 * page)
			if random.IntN(2) == 0 {
				bit = random.IntN(8 * 64) // where the structure is
			}
			text := bytes.Clone(good)
			text[at+bit/8] ^= 1 << (bit % 8)
			kinds[kind]++
			switch err, same := verdict(text); {
			case err != nil:
				refused[kind]++
				if _, ok := errors.AsType[*auditlog.TamperedError](err); !ok {
					t.Errorf("Verify() with bit %d of page %d (%s) flipped = %v, want a TamperedError", bit, at/page, kind, err)
				}
			case !same:
				t.Errorf("Verify() with bit %d of page %d (%s) flipped = nil, want an error or the same events", bit, at/page, kind)
			}
		}
	}
	for _, kind := range []string{"meta", "branch", "event leaf", "other leaf"} {
		if kinds[kind] == 0 || refused[kind] == 0 {
			t.Errorf("%s pages: %d bits flipped, %d refused, want some of both (of %v)", kind, kinds[kind], refused[kind], kinds)
		}
	}
	t.Log(fmt.Sprint("flipped ", kinds, ", refused ", refused))
}

// pageKind tells what a page holds by bbolt's own flags.
func pageKind(b []byte) string {
	switch {
	case b[8]&0x04 != 0:
		return "meta"
	case b[8]&0x01 != 0:
		return "branch"
	case b[8]&0x10 != 0:
		return "freelist"
	case b[8]&0x02 != 0 && bytes.Contains(b[:os.Getpagesize()], []byte(`"secret.mount"`)):
		return "event leaf"
	case b[8]&0x02 != 0:
		return "other leaf"
	}
	return "continued or free"
}
