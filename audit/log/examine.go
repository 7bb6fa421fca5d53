package log

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"slices"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// examination reads a whole log and holds it against its hashes and
// signatures, whatever the bytes are.
type examination struct {
	ctx  context.Context
	node string                               // name of the log without the epoch, and of its keys
	want int64                                // number that it must have, 0 for any
	keys note.Verifiers                       // that may have signed it
	each func(index int64, leaf []byte) error // may be nil

	headers map[string][]byte
	origin  string // of the tree: <name of the key>/<number of the epoch>
	number  int64  // of the epoch
	closed  bool   // it has ended
	size    int64
	hashes  computed
	// checkpoints found, and the last of them
	checkpoints int
	last        treeHead
	text        []byte  // of the last
	signers     []keyID // of every one of them
	state       fileState
	recent      [maxTail][]byte // the last leaves, at their index modulo maxTail
	first       []byte          // the first leaf
	tail        tail            // what no checkpoint covers
}

// run returns a *TamperedError, or what stopped it.
func (x *examination) run(r io.ReaderAt, fileSize int64) error {
	f, err := openPages(r, fileSize)
	if err != nil {
		return tampered(-1, "%v", err)
	}
	x.state = f.fileState
	for _, step := range []func(*pageFile) error{x.readBuckets, x.readMeta, x.readEvents, x.readHashes, x.readCheckpoints, x.readTail, x.readOthers} {
		if err := step(f); err != nil {
			return err
		}
	}
	return nil
}

// refusal is an error of whoever looks at the leaves, and no finding.
type refusal struct{ error }

// Unwrap returns the caller's own error.
func (e refusal) Unwrap() error { return e.error }

// structural makes findings of package pages a *TamperedError.
func structural(bucket string, err error) error {
	if r, ok := errors.AsType[refusal](err); ok {
		return r.error
	}
	if _, ok := errors.AsType[*TamperedError](err); err == nil || ok || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return tampered(-1, "bucket %s: %v", bucket, err)
}

func (x *examination) readBuckets(f *pageFile) error {
	x.headers = map[string][]byte{}
	header := binary.LittleEndian.AppendUint64(nil, f.root)
	err := f.bucket(append(header, make([]byte, 8)...), func(e element) error {
		if !e.bucket {
			return errDamaged
		}
		x.headers[string(e.key)] = bytes.Clone(e.value)
		return nil
	})
	if err != nil {
		return structural("root", err)
	}
	for _, name := range buckets() {
		if x.headers[name] == nil {
			return tampered(-1, "bucket %s is missing", name)
		}
	}
	return nil
}

// entries walks one of our buckets, which hold no buckets themselves.
func (x *examination) entries(f *pageFile, name string, each func(k, v []byte) error) error {
	return structural(name, f.bucket(x.headers[name], func(e element) error {
		if e.bucket {
			return errDamaged
		}
		if err := x.ctx.Err(); err != nil {
			return err
		}
		return each(e.key, e.value)
	}))
}

func (x *examination) readMeta(f *pageFile) error {
	values := map[string]string{}
	if err := x.entries(f, bucketMeta, func(k, v []byte) error {
		values[string(k)] = string(v)
		return nil
	}); err != nil {
		return err
	}
	if values[metaFormat] != formatV2 {
		return tampered(-1, "the format is not %s", formatV2)
	}
	node, epoch, ok := splitOrigin(values[metaOrigin])
	if !ok || node != x.node {
		e := tampered(-1, "it is the log of another node than the key's, %q", x.node)
		e.Hint = "give the node.vkey of the node that the file is from"
		return &foreignError{e, values[metaOrigin]}
	}
	if x.want != 0 && epoch != x.want {
		return tampered(-1, "it is epoch %d under the name of epoch %d", epoch, x.want)
	}
	x.origin, x.number, x.closed = values[metaOrigin], epoch, values[metaClosed] == closedMark
	if x.size, ok = number([]byte(values[metaSize])); !ok {
		return tampered(-1, "the size is missing")
	}
	return nil
}

func (x *examination) readEvents(f *pageFile) error {
	next := int64(0)
	err := x.entries(f, bucketEvents, func(k, leaf []byte) error {
		if n, ok := number(k); !ok || n != next {
			return tampered(next, "is missing")
		}
		if len(leaf) > MaxLeafBytes {
			return tampered(next, "is longer than the log takes")
		}
		hashes, err := tlog.StoredHashes(next, leaf, x.hashes)
		if err != nil {
			return err
		}
		x.hashes = append(x.hashes, hashes...)
		if next == 0 {
			x.first = bytes.Clone(leaf)
		}
		x.recent[next%maxTail] = append(x.recent[next%maxTail][:0], leaf...)
		if x.each != nil {
			if err := x.each(next, leaf); err != nil {
				return err
			}
		}
		next++
		return nil
	})
	if err != nil {
		return err
	}
	if next != x.size {
		return tampered(-1, "it holds %d events and says %d", next, x.size)
	}
	return nil
}

func (x *examination) readHashes(f *pageFile) error {
	next := int64(0)
	err := x.entries(f, bucketHashes, func(k, v []byte) error {
		n, ok := number(k)
		if !ok || n != next || n >= int64(len(x.hashes)) || !bytes.Equal(v, x.hashes[n][:]) {
			_, leaf := tlog.SplitStoredHashIndex(next)
			return tampered(leaf<<levelOf(next), "does not have the hash that was stored with it")
		}
		next++
		return nil
	})
	if err != nil {
		return err
	}
	if next != int64(len(x.hashes)) {
		return tampered(-1, "hashes are missing")
	}
	return nil
}

func levelOf(stored int64) int {
	level, _ := tlog.SplitStoredHashIndex(stored)
	return level
}

func (x *examination) readCheckpoints(f *pageFile) error {
	err := x.entries(f, bucketCheckpoints, func(k, text []byte) error {
		c, err := readHead(text, x.keys)
		if err == nil && c.origin != x.origin {
			err = errOtherLog
		}
		if err != nil {
			e := tampered(-1, "%v", err)
			e.Hint = "check that the key is the node's own; " + hintTampered
			return e
		}
		if n, ok := number(k); !ok || n != c.size {
			return tampered(-1, "a checkpoint of size %d stands in the place of another", c.size)
		}
		x.remember(c, text)
		return x.covers(c.checkpoint)
	})
	if err != nil {
		return err
	}
	if x.checkpoints == 0 {
		return tampered(-1, "no checkpoint is left, so no signature vouches for anything")
	}
	return nil
}

// remember keeps the last checkpoint, and the keys that signed all.
func (x *examination) remember(c treeHead, text []byte) {
	if x.checkpoints == 0 {
		x.signers = c.signers
	}
	x.signers = slices.DeleteFunc(slices.Clone(x.signers), func(id keyID) bool { return !slices.Contains(c.signers, id) })
	x.checkpoints++
	x.last, x.text = c, bytes.Clone(text)
}

// readTail refuses a tail that the writer would not have left: without it,
// whoever can write the file could drop the checkpoints and forge the rest.
func (x *examination) readTail(*pageFile) error {
	n := x.size - x.last.size
	t := &x.tail
	for i := x.size - min(n, maxTail); i < x.size; i++ {
		t.add(timeOf(x.recent[i%maxTail]))
	}
	switch {
	case n > 0 && x.last.size == 0:
		return tampered(0, "no signature vouches for it nor for any after it")
	case t.long():
		return tampered(x.last.size, "it and the %d after it are not signed: more, or over a longer time, than ever wait for a signature", n-1)
	}
	return nil
}

// covers checks that the log begins with what a checkpoint signed.
func (x *examination) covers(c checkpoint) error {
	if c.size > x.size {
		return tampered(-1, "%d events were signed and %d are left", c.size, x.size)
	}
	root, err := tlog.TreeHash(c.size, x.hashes)
	if err != nil {
		return err
	}
	if root != c.root {
		return tampered(-1, "the first %d events are not those that were signed", c.size)
	}
	return nil
}

// readOthers walks buckets that a later release may have made: bbolt would
// follow their pages too.
func (x *examination) readOthers(f *pageFile) error {
	for _, name := range buckets() {
		delete(x.headers, name)
	}
	for _, header := range x.headers {
		if err := structural("(other)", f.bucket(header, func(e element) error {
			if e.bucket {
				return errDamaged
			}
			return nil
		})); err != nil {
			return err
		}
	}
	return nil
}

// root is that of all events, also of those that no checkpoint covers.
func (x *examination) root() (tlog.Hash, error) { return tlog.TreeHash(x.size, x.hashes) }
