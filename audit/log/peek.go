package log

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A closed epoch is never written again, so it is read from its file and not
// through bbolt: no lock, no map that could fault, no page that is believed.

// errStop ends a walk early.
var errStop = errors.New("stop")

// closedFile is a closed epoch's file that was opened for reading.
type closedFile struct {
	f     *os.File
	pages *pageFile
	x     examination // what its buckets and its meta say
}

// openClosed opens the file of an epoch and reads what says what it is.
func openClosed(dir *os.Root, name string, verifier note.Verifier) (_ *closedFile, err error) {
	f, err := openPlain(dir, name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if err := checkPrivate(f, fileMode); err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at audit log: %w", err)
	}
	c := &closedFile{f: f, x: examination{ctx: context.Background(), node: verifier.Name(), keys: note.VerifierList(verifier)}}
	if c.pages, err = openPages(f, info.Size()); err != nil {
		return nil, inFile(f.Name(), tampered(-1, "%v", err))
	}
	for _, step := range []func(*pageFile) error{c.x.readBuckets, c.x.readMeta} {
		if err := step(c.pages); err != nil {
			return nil, inFile(f.Name(), err)
		}
	}
	return c, nil
}

// inFile names the file in a finding, and the remedy of whoever runs the log.
func inFile(path string, err error) error {
	if t, ok := errors.AsType[*TamperedError](err); ok {
		t.File, t.Hint = path, hintRefused
	}
	return err
}

func (c *closedFile) close() error { return c.f.Close() }

// bytes is how much of the file is in use.
func (c *closedFile) bytes() int64 {
	return int64(c.pages.end) * c.pages.pageSize //nolint:gosec // G115: openPages held it against the file size
}

// from gives the entries of a bucket whose number is n or more, in order.
func (c *closedFile) from(bucket string, n int64, each func(n int64, value []byte) error) error {
	header := c.x.headers[bucket]
	if len(header) < bucketHeaderSize {
		return inFile(c.f.Name(), structural(bucket, errDamaged))
	}
	c.pages.seen = map[uint64]bool{}
	w := &ranged{f: c.pages, key: key(n), each: each}
	var err error
	if root := binary.LittleEndian.Uint64(header); root != 0 {
		err = w.tree(root, 0)
	} else {
		err = w.page(header[bucketHeaderSize:], maxDepth)
	}
	if errors.Is(err, errStop) {
		return nil
	}
	if errors.Is(err, errDamaged) {
		return inFile(c.f.Name(), structural(bucket, err))
	}
	return err
}

// at returns the entry of this number.
func (c *closedFile) at(bucket string, n int64) (value []byte, err error) {
	err = c.from(bucket, n, func(found int64, v []byte) error {
		if found == n {
			value = v
		}
		return errStop
	})
	if err == nil && value == nil {
		err = inFile(c.f.Name(), tampered(-1, "bucket %s has no entry %d", bucket, n))
	}
	return value, err
}

// ranged walks a tree from a key on, and skips what is before it.
type ranged struct {
	f    *pageFile
	key  []byte
	each func(n int64, value []byte) error
}

func (w *ranged) tree(id uint64, depth int) error {
	if depth >= maxDepth {
		return errDamaged
	}
	b, err := w.f.page(id)
	if err != nil {
		return errors.Join(errDamaged, err)
	}
	return w.page(b, depth)
}

func (w *ranged) page(b []byte, depth int) error {
	list, branch, err := elements(b)
	if err != nil {
		return err
	}
	for i, e := range list {
		if branch {
			if i+1 < len(list) && bytes.Compare(list[i+1].key, w.key) <= 0 {
				continue
			}
			if err := w.tree(e.child, depth+1); err != nil {
				return err
			}
			continue
		}
		n, ok := number(e.key)
		switch {
		case !ok || e.bucket:
			return errDamaged
		case bytes.Compare(e.key, w.key) < 0:
			continue
		}
		if err := w.each(n, e.value); err != nil {
			return err
		}
	}
	return nil
}

// summary is what the ends of a closed epoch say.
type summary struct {
	Epoch
	before   Boundary      // its first leaf
	replaced note.Verifier // the key that its last leaves replaced, or nil
	key      string        // the one that followed that
}

// summarize checks a closed epoch cheaply: its mark, its final checkpoint, its
// first and last leaves. Whether the leaves in between are those that were
// signed is for Verify to say.
func (c *closedFile) summarize(verifiers []note.Verifier) (s summary, err error) {
	if !c.x.closed {
		return s, inFile(c.f.Name(), tampered(-1, "it has not ended, and a later epoch is there"))
	}
	text, err := c.at(bucketCheckpoints, c.x.size)
	if err != nil {
		return s, err
	}
	final, err := openCheckpoint(text, c.x.origin, verifiers...)
	if err != nil || final.size != c.x.size {
		return s, inFile(c.f.Name(), tampered(-1, "its final checkpoint is not signed by the node's key, nor by one that this replaced"))
	}
	s.Epoch = Epoch{Number: c.x.number, Origin: c.x.origin, Size: final.size, Root: final.root, Bytes: c.bytes(), Closed: true}
	return s, errors.Join(c.readFirst(&s), c.readLast(&s))
}

func (c *closedFile) readFirst(s *summary) error {
	leaf, err := c.at(bucketEvents, 0)
	if err != nil {
		return err
	}
	kind, b, err := parseBoundary(leaf)
	if err != nil || kind != KindOpened {
		return inFile(c.f.Name(), tampered(0, "is not that of an epoch's begin"))
	}
	s.before, s.From = b, timeOf(leaf)
	return nil
}

func (c *closedFile) readLast(s *summary) error {
	leaf, err := c.at(bucketEvents, c.x.size-1)
	if err != nil {
		return err
	}
	if kind, b, err := parseBoundary(leaf); err != nil || kind != KindClosed || b.Epoch != c.x.number || b.Size != c.x.size-1 {
		return inFile(c.f.Name(), tampered(c.x.size-1, "is not that of an epoch's end"))
	}
	s.To = timeOf(leaf)
	if c.x.size < 3 {
		return nil
	}
	if leaf, err = c.at(bucketEvents, c.x.size-2); err != nil {
		return err
	}
	kind, b, err := parseBoundary(leaf)
	if err != nil || kind != KindRotated {
		return nil //nolint:nilerr // a leaf that is not ours to understand rotates nothing
	}
	s.key = b.Key
	s.replaced, err = note.NewVerifier(b.PreviousKey)
	if err != nil || s.replaced.Name() != c.x.node {
		return inFile(c.f.Name(), tampered(c.x.size-2, "names a key that is none of this node"))
	}
	return nil
}

// precedes returns why an epoch that begins with this cannot come after s.
// Between the two there may be others that are missing.
func (s summary) precedes(b Boundary) error {
	if b.Epoch > s.Number {
		return nil
	}
	if b.Epoch < s.Number {
		return tampered(-1, "the epoch after it says that another came before")
	}
	if want := boundaryOf(s.Number, s.Size, tlog.Hash(s.Root)); b.Size != want.Size || b.Root != want.Root {
		return tampered(-1, "it does not end with what the epoch after it says")
	}
	return nil
}

// copyTo writes what is in use of the file.
func (c *closedFile) copyTo(w io.Writer) error {
	_, err := io.Copy(w, io.NewSectionReader(c.f, 0, c.bytes()))
	return err
}

// age is how old an epoch is that began with this leaf.
func age(now, began time.Time) time.Duration {
	if began.IsZero() {
		return 0
	}
	return now.Sub(began)
}
