package log_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

// TestCheckpointIsC2SP reads a checkpoint with nothing but the published
// format: origin, size, root, and an Ed25519 signature of package note.
func TestCheckpointIsC2SP(t *testing.T) {
	c := config(t)
	l := open(t, c)
	fill(t, l, 0, 36)
	text, err := l.Checkpoint()
	if err != nil {
		t.Fatalf("Checkpoint() = %v, want no error", err)
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(vkey(t, c.Dir)))
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open(text, note.VerifierList(verifier))
	if err != nil {
		t.Fatalf("note.Open(%q) = %v, want no error", text, err)
	}
	size, root, err := l.Tree()
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%s/1\n37\n%s\n", origin, base64.StdEncoding.EncodeToString(root[:]))
	if n.Text != want || size != 37 {
		t.Errorf("checkpoint = %q of size %d, want %q", n.Text, size, want)
	}
}

// TestRootIsRFC6962 computes the root from the leaves alone.
func TestRootIsRFC6962(t *testing.T) {
	l := open(t, config(t))
	var hashes []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var list []tlog.Hash
		for _, i := range indexes {
			list = append(list, hashes[i])
		}
		return list, nil
	})
	for i := range 70 {
		text := leaf(i)
		if i == 0 {
			first, err := l.Read(auditlog.Position{}, 1)
			if err != nil || len(first) != 1 {
				t.Fatalf("Read() = %v, %v, want the first leaf", first, err)
			}
			text = first[0].Data
		} else if _, err := l.Append(t.Context(), text); err != nil {
			t.Fatal(err)
		}
		more, err := tlog.StoredHashes(int64(i), text, reader)
		if err != nil {
			t.Fatal(err)
		}
		hashes = append(hashes, more...)
		want, err := tlog.TreeHash(int64(i)+1, reader)
		if err != nil {
			t.Fatal(err)
		}
		if _, got, err := l.Tree(); err != nil || got != want {
			t.Fatalf("Tree() after %d leaves = %x, %v, want %x", i+1, got, err, want)
		}
	}
}

func TestEmptyLogIsSigned(t *testing.T) {
	c := config(t)
	closeLog(t, open(t, c))
	r := verified(t, c.Dir)
	if r.Events != 1 || r.Checkpoints != 1 || r.Tail != 0 || r.Epochs[0].Origin != origin+"/1" {
		t.Errorf("Verify() = %+v, want an epoch with its first leaf and one checkpoint", r)
	}
	// RFC 6962, section 2.1: the hash of an empty tree is that of nothing.
	first, err := open(t, c).Read(auditlog.Position{}, 9)
	want := `"log":{"epoch":0,"size":0,"root":"e3b0c44298fc1c14`
	if err != nil || len(first) != 1 || !strings.Contains(string(first[0].Data), want) {
		t.Errorf("Read() = %+v, %v, want one leaf with %s", first, err, want)
	}
}

// TestVerifyReadsEveryPageSize rewrites a log with other page sizes, as other
// machines have them: small pages also make deep trees.
func TestVerifyReadsEveryPageSize(t *testing.T) {
	c := config(t)
	l := open(t, c)
	fill(t, l, 0, 399)
	big := `{"id":"big","pad":"` + strings.Repeat("x", 30<<10) + `"}` // on overflow pages
	if _, err := l.Append(t.Context(), []byte(big)); err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
	for size := 1 << 10; size <= 1<<16; size *= 2 {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "copy.db")
			rewritten(t, filepath.Join(c.Dir, auditlog.EpochFile(1)), path, size)
			r, err := auditlog.Verify(t.Context(), auditlog.VerifyConfig{Path: path, VKey: vkey(t, c.Dir)})
			if err != nil || r.Events != 401 || r.Tail != 0 {
				t.Errorf("Verify() = %d events, tail %d, %v, want 401 and 0", r.Events, r.Tail, err)
			}
		})
	}
}

// rewritten copies every bucket into a file with another page size.
func rewritten(t *testing.T, from, to string, pageSize int) {
	t.Helper()
	in, err := bolt.Open(from, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := bolt.Open(to, 0o600, &bolt.Options{PageSize: pageSize, NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	err = in.View(func(src *bolt.Tx) error {
		return out.Update(func(dst *bolt.Tx) error {
			return src.ForEach(func(name []byte, b *bolt.Bucket) error {
				d, err := dst.CreateBucket(name)
				if err != nil {
					return err
				}
				return b.ForEach(d.Put)
			})
		})
	})
	if err := errors.Join(err, out.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestVerifyAllowsOtherBuckets: a later release may keep more in the file.
func TestVerifyAllowsOtherBuckets(t *testing.T) {
	c := config(t)
	l := open(t, c)
	fill(t, l, 0, 5)
	closeLog(t, l)
	file := filepath.Join(c.Dir, auditlog.EpochFile(1))
	edit(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucket([]byte("cursors"))
		if err != nil {
			return err
		}
		return b.Put([]byte("splunk"), key8(3))
	})(t, file)
	if r := verified(t, c.Dir); r.Events != 6 {
		t.Errorf("Verify().Events = %d, want 6", r.Events)
	}
	closeLog(t, open(t, c))
	edit(func(tx *bolt.Tx) error {
		_, err := bucket(tx, "cursors").CreateBucket([]byte("nested"))
		return err
	})(t, file)
	_, err := auditlog.Verify(t.Context(), auditlog.VerifyConfig{Path: file, VKey: vkey(t, c.Dir)})
	if _, ok := errors.AsType[*auditlog.TamperedError](err); !ok {
		t.Errorf("Verify() with nested buckets = %v, want a TamperedError", err)
	}
}

// TestVerifyFollowsNoLoop points pages at themselves and at each other, which
// bbolt would follow for ever.
func TestVerifyFollowsNoLoop(t *testing.T) {
	c := config(t)
	l := open(t, c)
	fill(t, l, 0, 199)
	closeLog(t, l)
	good := content(t, filepath.Join(c.Dir, auditlog.EpochFile(1)))
	page := os.Getpagesize()
	branches := 0
	for at := 2 * page; at+page <= len(good); at += page {
		if good[at+8] != 1 || good[at+9] != 0 { // not a branch page
			continue
		}
		branches++
		for _, child := range []uint64{uint64(at / page), 0, 1, 2, 3, 1 << 40, 1<<64 - 1} {
			text := bytes.Clone(good)
			for i := range 8 {
				text[at+16+8+i] = byte(child >> (8 * i)) // child of the first element
			}
			r, err := auditlog.VerifyReader(t.Context(), auditlog.VerifyConfig{VKey: vkey(t, c.Dir)}, bytes.NewReader(text), int64(len(text)))
			// The page may be a free one, or the child the one it had.
			if err == nil && r.Events != 200 {
				t.Errorf("Verify() with page %d leading to %d = %+v, want an error", at/page, child, r)
			}
		}
	}
	if branches == 0 {
		t.Error("the file has no branch page, so this proves nothing")
	}
}

func TestErrorsNameTheRemedy(t *testing.T) {
	for _, err := range []error{
		auditlog.ErrFull, auditlog.ErrLocked, auditlog.ErrReplaced, auditlog.ErrBroken,
		&auditlog.TamperedError{File: "/f", Index: 7, What: "is missing", Hint: "look"},
		&auditlog.DirectoryError{Path: "/d", Problem: "is a link", Remedy: "look"},
	} {
		if text := err.Error(); !strings.Contains(text, "; hint: ") || strings.Contains(text, "\n") {
			t.Errorf("Error() = %q, want one line with a hint", text)
		}
	}
	with, without := &auditlog.TamperedError{Index: 7, What: "x"}, &auditlog.TamperedError{Index: -1, What: "x"}
	if !strings.Contains(with.Error(), "event 7: x") || strings.Contains(without.Error(), "event") {
		t.Errorf("Error() = %q and %q, want the index in the first alone", with, without)
	}
}
