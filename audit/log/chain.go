package log

import (
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// boundaries are the leaves of one epoch that tell where it begins and ends.
type boundaries struct {
	begins  bool     // the first leaf is log.opened
	first   Boundary // of the epoch before
	ended   int64    // index of log.closed, or -1
	rotated Boundary // the last key.rotated
	said    []saying
}

// saying is what a leaf says of the epoch that it stands in.
type saying struct {
	index int64
	kind  Kind
	of    Boundary
}

// see remembers the boundaries among the leaves, for check.
func (b *boundaries) see(index int64, kind Kind, said Boundary) {
	switch {
	case index == 0:
		b.begins, b.first = kind == KindOpened, said
		return
	case kind == KindRotated:
		b.rotated = said
	case kind == KindClosed && b.ended < 0:
		b.ended = index
	case kind != KindOpened && kind != KindClosed:
		return
	}
	b.said = append(b.said, saying{index, kind, said})
}

// isTree reports whether it names the tree of that size and root.
func (s Boundary) isTree(size int64, root tlog.Hash) bool {
	return s.Size == size && s.Root == hex.EncodeToString(root[:])
}

// check checks what a leaf says of this epoch's leaves before it.
func (s saying) check(x *examination) error {
	of := s.of
	if s.kind == KindOpened && of.Epoch < x.number {
		return nil // whoever started found the epoch before, which then ended
	}
	if of.Epoch != x.number || of.Size < 0 || of.Size > s.index || s.kind == KindClosed && of.Size != s.index {
		return tampered(s.index, "says another size of the log than it has")
	}
	root, err := tlog.TreeHash(of.Size, x.hashes)
	if err != nil {
		return err
	}
	if !of.isTree(of.Size, root) {
		return tampered(s.index, "says another root of the log than it has")
	}
	return nil
}

// check checks what the boundaries say, once the leaves are those that were
// signed, and that an epoch that has ended ends as one does.
func (b *boundaries) check(x *examination) error {
	switch {
	case x.size == 0:
		return tampered(-1, "it has no event, not even that of its beginning")
	case !b.begins:
		return tampered(0, "is not the beginning of an epoch")
	case b.ended >= 0 && b.ended < x.size-1:
		return tampered(b.ended+1, "comes after the end of its epoch")
	}
	for _, s := range b.said {
		if err := s.check(x); err != nil {
			return err
		}
	}
	switch {
	case !x.closed:
		return nil
	case b.ended < 0:
		return tampered(-1, "it is marked as ended, and its last event does not say so")
	case x.last.size != x.size:
		return tampered(-1, "it has ended, and no signature covers all of it")
	}
	return nil
}

// link is what the next epoch must follow.
type link struct {
	file   epochFile
	number int64
	size   int64
	root   tlog.Hash
	closed bool
	key    keyID // that signed it
	next   keyID // that a proved rotation hands over to
}

// chain checks that epochs follow each other, and follows their keys.
type chain struct {
	keys    *keyring
	links   []link
	deleted int64
	lost    []Lost
}

func (c *chain) last() link { return c.links[len(c.links)-1] }

func (c *chain) add(e epochFile, x *examination, b *boundaries) error {
	root, err := x.root()
	if err != nil {
		return err
	}
	l := link{file: e, number: x.number, size: x.size, root: root, closed: x.closed}
	if err := c.follows(x.number, b.first); err != nil {
		return err
	}
	if err := c.sign(&l, x, b); err != nil {
		return err
	}
	c.links = append(c.links, l)
	return nil
}

// follows checks an epoch's first leaf against the epoch before.
func (c *chain) follows(number int64, first Boundary) error {
	if len(c.links) == 0 {
		return c.begins(number, first)
	}
	before := c.last()
	switch {
	case first.Epoch > before.number && first.Epoch < number:
		return missing(filepath.Dir(before.file.path), first.Epoch, fmt.Sprintf("epoch %d follows it", number))
	case first.Epoch != before.number:
		return tampered(0, "says that epoch %d was before, and epoch %d is", first.Epoch, before.number)
	case !before.closed:
		e := tampered(-1, "it was not ended, and epoch %d follows it", number)
		e.File = before.file.path
		return e
	case first.Size > before.size:
		e := tampered(-1, "it has %d events, and had %d when epoch %d began", before.size, first.Size, number)
		e.File = before.file.path
		return e
	case !first.isTree(before.size, before.root):
		return tampered(0, "does not follow epoch %d as it is here: one of the two is not of this log", before.number)
	}
	if number != before.number+1 {
		c.lost = append(c.lost, Lost{before.number, number})
	}
	return nil
}

// begins checks the first leaf of the oldest epoch that is there.
func (c *chain) begins(number int64, first Boundary) error {
	empty, err := tlog.TreeHash(0, nil)
	if err != nil {
		return err
	}
	switch {
	case first.Epoch < 0 || first.Epoch >= number:
		return tampered(0, "says that epoch %d was before", first.Epoch)
	case first.Epoch == 0 && !first.isTree(0, empty):
		return tampered(0, "says that something was before the first epoch")
	case first.Epoch != number-1:
		c.lost = append(c.lost, Lost{first.Epoch, number})
	}
	c.deleted = first.Epoch
	return nil
}

// missing is the finding that an epoch's file is gone.
func missing(dir string, epoch int64, why string) error {
	e := tampered(-1, "it is missing: %s", why)
	e.File = filepath.Join(dir, EpochFile(epoch))
	e.Hint = "copy the whole directory; if it is not there either, " + hintTampered
	return e
}

// sign finds out whose key an epoch is signed with, and whether that key may
// follow the one before.
func (c *chain) sign(l *link, x *examination, b *boundaries) error {
	if len(x.signers) == 0 {
		return tampered(-1, "its checkpoints are not signed by one key")
	}
	old, next := c.claimed(b)
	switch {
	case len(c.links) > 0 && c.last().next != (keyID{}):
		l.key = c.last().next
	case len(c.links) > 0:
		l.key = c.last().key
	case slices.Contains(x.signers, old):
		l.key = old
	default:
		l.key = x.signers[0]
	}
	if !slices.Contains(x.signers, l.key) {
		return tampered(-1, "it is signed by key %08x, and the log was never handed over to that from %08x", x.signers[0].hash, l.key.hash)
	}
	if old == l.key && next != old && x.closed && slices.Contains(x.last.signers, next) {
		l.next = next
	}
	return nil
}

// claimed are the keys of a rotation on record, which the caller has to prove.
func (c *chain) claimed(b *boundaries) (old, next keyID) {
	if b.rotated.Key == "" {
		return keyID{}, keyID{}
	}
	old, err := c.keys.claim(b.rotated.PreviousKey)
	if err != nil {
		return keyID{}, keyID{}
	}
	next, err = c.keys.claim(b.rotated.Key)
	if err != nil {
		return keyID{}, keyID{}
	}
	return old, next
}

// trusts reports whether one of the keys signed an epoch, or was handed the log.
func (c *chain) trusts(keys []keyID) bool {
	return slices.ContainsFunc(c.links, func(l link) bool {
		return slices.Contains(keys, l.key) || slices.Contains(keys, l.next)
	})
}

// anchored checks that the keys of the chain lead to one that is trusted.
func (c *chain) anchored() error {
	if c.trusts(c.keys.trusted) {
		return nil
	}
	e := tampered(-1, "checkpoint is not signed by the node's key: by %08x, which no rotation leads to from %08x", c.last().key.hash, c.keys.trusted[0].hash)
	e.Hint = "check that the key is the node's own; " + hintTampered
	return e
}
