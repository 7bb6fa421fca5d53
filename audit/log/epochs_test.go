package log_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

// pen is a key of a node, with which a test writes logs as that node would, and
// as it would not.
type pen struct {
	signer note.Signer
	vkey   string
}

func newPen(t testing.TB, name string) pen {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	return pen{signer, vkey}
}

// tree is what one epoch ends with.
type tree struct {
	number, size int64
	root         tlog.Hash
}

// draft is an epoch that a test writes.
type draft struct {
	number int64
	leaves [][]byte
	hashes []tlog.Hash
	closed bool
	// cosigned signs the last checkpoint besides, and signs alone where only is set.
	pen      pen
	cosigned *pen
	only     bool
}

func (d *draft) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var list []tlog.Hash
	for _, i := range indexes {
		list = append(list, d.hashes[i])
	}
	return list, nil
}

func (d *draft) add(t testing.TB, leaf string) {
	t.Helper()
	more, err := tlog.StoredHashes(int64(len(d.leaves)), []byte(leaf), d)
	if err != nil {
		t.Fatal(err)
	}
	d.leaves, d.hashes = append(d.leaves, []byte(leaf)), append(d.hashes, more...)
}

func (d *draft) tree(t testing.TB, size int64) tree {
	t.Helper()
	root, err := tlog.TreeHash(size, d)
	if err != nil {
		t.Fatal(err)
	}
	return tree{d.number, size, root}
}

func (d *draft) whole(t testing.TB) tree { t.Helper(); return d.tree(t, int64(len(d.leaves))) }

// begin is the first leaf of an epoch after that one, and n more events.
func begin(t testing.TB, p pen, number int64, before tree, n int) *draft {
	t.Helper()
	d := &draft{number: number, pen: p}
	d.add(t, boundary("log.opened", before, ""))
	for i := range n {
		d.add(t, fmt.Sprintf(`{"id":"e%d-%06d","time":"2026-01-15T12:00:00Z","type":"secret.mount","pad":%q}`, number, i, strings.Repeat("x", 300)))
	}
	return d
}

func boundary(kind string, s tree, more string) string {
	return fmt.Sprintf(`{"id":"%s-%d-%d","time":"2026-01-15T12:00:00Z","type":%q,"log":{"epoch":%d,"size":%d,"root":%q%s}}`,
		kind, s.number, s.size, kind, s.number, s.size, hex.EncodeToString(s.root[:]), more)
}

// end is the last leaf.
func (d *draft) end(t testing.TB) *draft {
	t.Helper()
	d.add(t, boundary("log.closed", d.whole(t), ""))
	d.closed = true
	return d
}

// rotate ends an epoch with a rotation, which both keys sign.
func (d *draft) rotate(t testing.TB, next pen) *draft {
	t.Helper()
	d.add(t, boundary("key.rotated", d.whole(t), fmt.Sprintf(`,"previousKey":%q,"key":%q`, d.pen.vkey, next.vkey)))
	d.cosigned = &next
	return d.end(t)
}

func (d *draft) origin() string { return d.pen.signer.Name() + "/" + strconv.FormatInt(d.number, 10) }

func (d *draft) checkpoint(t testing.TB, size int64, signers ...note.Signer) []byte {
	t.Helper()
	s := d.tree(t, size)
	text, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", d.origin(), size, base64.StdEncoding.EncodeToString(s.root[:]))}, signers...)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (d *draft) last(t testing.TB) []byte {
	t.Helper()
	signers := []note.Signer{d.pen.signer}
	if d.cosigned != nil {
		signers = append(signers, d.cosigned.signer)
	}
	if d.only {
		signers = signers[1:]
	}
	return d.checkpoint(t, int64(len(d.leaves)), signers...)
}

// write makes the epoch's file.
func (d *draft) write(t testing.TB, path string) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoFreelistSync: true, FreelistType: bolt.FreelistMapType})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		var errs []error
		for _, name := range []string{"events", "hashes", "checkpoints", "meta"} {
			_, err := tx.CreateBucket([]byte(name))
			errs = append(errs, err)
		}
		for i, leaf := range d.leaves {
			errs = append(errs, bucket(tx, "events").Put(key8(uint64(i)), leaf))
		}
		for i, h := range d.hashes {
			errs = append(errs, bucket(tx, "hashes").Put(key8(uint64(i)), h[:]))
		}
		size := uint64(len(d.leaves))
		if size > 2 {
			errs = append(errs, bucket(tx, "checkpoints").Put(key8(size/2), d.checkpoint(t, int64(size/2), d.pen.signer)))
		}
		m := bucket(tx, "meta")
		errs = append(errs, bucket(tx, "checkpoints").Put(key8(size), d.last(t)),
			m.Put([]byte("format"), []byte("portcullis-log-v2")), m.Put([]byte("origin"), []byte(d.origin())), m.Put([]byte("size"), key8(size)))
		if d.closed {
			errs = append(errs, m.Put([]byte("closed"), []byte{1}))
		}
		return errors.Join(errs...)
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

func nothing(t testing.TB) tree { t.Helper(); return (&draft{}).tree(t, 0) }

// chained is a log of n epochs by one key, the last of them open.
func chained(t testing.TB, p pen, n, events int) []*draft {
	t.Helper()
	var list []*draft
	before := nothing(t)
	for i := range n {
		d := begin(t, p, int64(i)+1, before, events)
		if i < n-1 {
			d.end(t)
		}
		before = d.whole(t)
		list = append(list, d)
	}
	return list
}

// written puts epochs into a directory.
func written(t testing.TB, drafts ...*draft) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range drafts {
		d.write(t, epochPath(dir, d.number))
	}
	return dir
}

func epochPath(dir string, n int64) string { return filepath.Join(dir, auditlog.EpochFile(n)) }

// clone copies a directory, for one test to change.
func clone(t testing.TB, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

func verify(t testing.TB, path, vkey string, known ...[]byte) (auditlog.Report, error) {
	t.Helper()
	return auditlog.Verify(t.Context(), auditlog.VerifyConfig{Path: path, VKey: vkey, Known: known})
}

// refused checks that an error is a finding, about this file, with this text.
func refused(t testing.TB, err error, file, want string) {
	t.Helper()
	found, ok := errors.AsType[*auditlog.TamperedError](err)
	if !ok || !strings.HasSuffix(found.File, file) || !strings.Contains(err.Error(), want) {
		t.Errorf("Verify() = %v, want a TamperedError about %q with %q", err, file, want)
	}
}

func TestVerifyADirectory(t *testing.T) {
	p := newPen(t, origin)
	drafts := chained(t, p, 4, 20)
	dir := written(t, drafts...)
	var seen []auditlog.Position
	r, err := auditlog.Verify(t.Context(), auditlog.VerifyConfig{Path: dir, VKey: p.vkey, Each: func(at auditlog.Position, leaf []byte) error {
		if !bytes.Equal(leaf, drafts[at.Epoch-1].leaves[at.Index]) {
			t.Errorf("Each(%v) = %s, want that leaf", at, leaf)
		}
		seen = append(seen, at)
		return nil
	}})
	if err != nil {
		t.Fatalf("Verify() = %v, want no error", err)
	}
	const want = 3*22 + 21
	if len(r.Epochs) != 4 || r.Events != want || len(seen) != want || r.Signed != want || r.Deleted != 0 || r.Lost != nil || r.Root != drafts[3].whole(t).root {
		t.Errorf("Verify() = %+v after %d leaves, want 4 epochs with %d events", r, len(seen), want)
	}
	verdict := fmt.Sprintf("%d events of %s in 4 epochs (1 to 4), none altered, removed or reordered; whether it was put back to an earlier state or newly made cannot be known without a checkpoint from elsewhere", want, origin)
	if r.Verdict() != verdict {
		t.Errorf("Verdict() = %q, want %q", r.Verdict(), verdict)
	}
	r, err = verify(t, dir, p.vkey, append(drafts[0].last(t), drafts[3].last(t)...))
	if err != nil || r.Known != 2 || strings.Contains(r.Verdict(), "cannot be known") {
		t.Errorf("Verify(with two checkpoints) = %+v, %v, want both held against it", r, err)
	}
	r, err = verify(t, epochPath(dir, 2), p.vkey)
	if err != nil || r.Events != 22 || r.Deleted != 1 {
		t.Errorf("Verify(one file) = %+v, %v, want 22 events and epoch 1 before", r, err)
	}
}

func TestVerifySaysWhatIsDeletedAndLost(t *testing.T) {
	p := newPen(t, origin)
	drafts := chained(t, p, 3, 5)
	for _, d := range drafts {
		d.closed = d.closed || d.number == 3
	}
	dir := written(t, drafts[1:2]...)
	after := begin(t, p, 1790000000, drafts[1].whole(t), 5)
	after.write(t, epochPath(dir, after.number))
	r, err := verify(t, dir, p.vkey)
	if err != nil || r.Deleted != 1 || len(r.Lost) != 1 || r.Lost[0] != (auditlog.Lost{After: 2, Epoch: 1790000000}) {
		t.Fatalf("Verify() = %+v, %v, want epoch 1 deleted, and those after 2 lost", r, err)
	}
	for _, want := range []string{"epochs up to 1 are deleted", "WARNING: the node found its log lost when it began epoch 1790000000 after epoch 2"} {
		if !strings.Contains(r.Verdict(), want) {
			t.Errorf("Verdict() = %q, want %q", r.Verdict(), want)
		}
	}
	_, err = verify(t, dir, p.vkey, drafts[0].last(t))
	if _, ok := errors.AsType[*auditlog.CheckpointError](err); !ok || !strings.Contains(err.Error(), "epoch 1, which is not there any more") {
		t.Errorf("Verify(checkpoint of a deleted epoch) = %v, want a CheckpointError that says so", err)
	}
	lost := begin(t, p, 3, drafts[1].whole(t), 7)
	_, err = verify(t, dir, p.vkey, lost.last(t))
	if _, ok := errors.AsType[*auditlog.CheckpointError](err); !ok || !strings.Contains(err.Error(), "which the node lost") {
		t.Errorf("Verify(checkpoint of a lost epoch) = %v, want a CheckpointError that says so", err)
	}
}
