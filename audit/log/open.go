package log

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Opening is what Open found. Whoever starts should put it on record: each of
// its marks is what a first start or a crash leaves, or somebody's hand.
type Opening struct {
	// Created is set if the active epoch was made by Open: its first leaf says
	// so, and whether one was lost.
	Created bool
	// Lost is set if there was no active epoch although there had been one: it
	// was removed, or a first start was interrupted.
	Lost bool
	// Unsigned is how many events came after the last checkpoint. They were
	// within the bounds of what a crash leaves, and are signed now.
	Unsigned int64
	// Missing are epochs that a later one names as the one before it, and that
	// are not there: somebody removed them. The oldest ones end by retention,
	// and are not among these.
	Missing []int64
}

// Opening returns what Open found.
func (l *Log) Opening() Opening {
	o := l.opening
	o.Missing = slices.Clone(o.Missing)
	return o
}

func (l *Log) open() (err error) {
	if l.held, err = os.Open(l.c.Dir); err != nil {
		return fmt.Errorf("open audit log directory: %w", err)
	}
	if err := lock(l.held, syscall.LOCK_EX); err != nil {
		return err
	}
	files, err := l.list()
	if err != nil {
		return err
	}
	if err := l.finishRotation(files.last()); err != nil {
		return fmt.Errorf("finish the replacement of the node key: %w", err)
	}
	k, err := loadKey(l.dir, l.c.Origin, len(files.epochs) > 0)
	if err != nil {
		return err
	}
	l.signer, l.verifier = k.signer, k.verifier
	if k.aside != "" {
		l.c.Logger.Warn("public key of the audit log was not that of its key, and was set aside", slog.String(keyFile, k.aside))
	}
	open, err := l.survey(files)
	if err != nil {
		return err
	}
	if err := l.openActive(files, open, k.found); err != nil {
		return err
	}
	l.provide(0)
	return nil
}

// listing is what is in the directory.
type listing struct {
	epochs []int64 // ascending
	unborn map[int64]bool
}

func (f listing) last() string {
	if len(f.epochs) == 0 {
		return ""
	}
	return EpochFile(f.epochs[len(f.epochs)-1])
}

// list refuses what looks like an epoch and is none: to pass over it would be
// to start without it.
func (l *Log) list() (f listing, err error) {
	entries, err := fs.ReadDir(l.dir.FS(), ".")
	if err != nil {
		return f, fmt.Errorf("read audit log directory: %w", err)
	}
	f.unborn = map[int64]bool{}
	for _, e := range entries {
		name := e.Name()
		switch n, ok := epochNumber(strings.TrimSuffix(name, unfinished)); {
		case name == formerFileName:
			return f, &DirectoryError{l.path(name), "is a log of an earlier format, which this version does not read", "move it away, with node.key and node.vkey, to begin a new log"}
		case !strings.HasPrefix(name, epochPrefix):
		case !ok:
			return f, &DirectoryError{l.path(name), "is no file of this log", "find out who made it, then move it away"}
		case strings.HasSuffix(name, unfinished):
			f.unborn[n] = true
		default:
			f.epochs = append(f.epochs, n)
		}
	}
	slices.Sort(f.epochs)
	return f, nil
}

// survey checks the closed epochs from the newest back, since each key that was
// replaced is named by the epoch that it signed last, and tells whether the
// last epoch is open.
func (l *Log) survey(files listing) (open bool, err error) {
	keys := []note.Verifier{l.verifier}
	var later *Boundary // the first leaf of the one after
	for i := len(files.epochs) - 1; i >= 0; i-- {
		n := files.epochs[i]
		c, err := l.openOurs(n)
		if err != nil {
			return false, err
		}
		if i == len(files.epochs)-1 && !c.x.closed {
			open = true
			s := summary{}
			err = errors.Join(c.readFirst(&s), c.close())
			later = &s.before
		} else {
			later, keys, err = l.surveyOne(c, later, keys)
		}
		if err != nil {
			return false, err
		}
	}
	slices.Reverse(l.older)
	slices.Sort(l.opening.Missing)
	return open, nil
}

func (l *Log) surveyOne(c *closedFile, later *Boundary, keys []note.Verifier) (*Boundary, []note.Verifier, error) {
	s, err := c.summarize(keys)
	if err := errors.Join(err, c.close()); err != nil {
		return nil, nil, err
	}
	if later != nil {
		if err := s.precedes(*later); err != nil {
			return nil, nil, inFile(l.path(EpochFile(s.Number)), err)
		}
		if later.Epoch > s.Number {
			l.opening.Missing = append(l.opening.Missing, later.Epoch)
		}
	}
	if s.replaced != nil {
		if err := l.checkCurrent(s, len(keys) == 1); err != nil {
			return nil, nil, err
		}
		keys = append(keys, s.replaced)
	}
	l.older = append(l.older, s.Epoch)
	return &s.before, keys, nil
}

// checkCurrent refuses a key of before the newest rotation: what it signs would
// never verify, and an old key is the one that others may have.
func (l *Log) checkCurrent(s summary, newest bool) error {
	v, err := note.NewVerifier(s.key)
	if err == nil && (!newest || idOf(v) == idOf(l.verifier)) {
		return nil
	}
	return &DirectoryError{keyPath(l.dir), fmt.Sprintf("is not the key that epoch %d was handed over to", s.Number), "restore the newest one, or move the whole directory away as evidence to begin a new log"}
}

// openOurs opens an epoch by its number, and refuses another's file.
func (l *Log) openOurs(n int64) (*closedFile, error) {
	name := EpochFile(n)
	c, err := openClosed(l.dir, name, l.verifier)
	if other, ok := errors.AsType[*foreignError](err); ok {
		return nil, &DirectoryError{l.path(name), fmt.Sprintf("is of log %q", other.origin), "find out who put it there, then move it away"}
	}
	if err != nil {
		return nil, err
	}
	if c.x.number != n {
		return nil, errors.Join(&DirectoryError{l.path(name), fmt.Sprintf("is epoch %d by its content", c.x.number), "find out who renamed it, then give it its name back"}, c.close())
	}
	return c, nil
}

// openActive opens the last epoch, ends a roll-over that was interrupted, or
// makes an epoch where there is none.
func (l *Log) openActive(files listing, open, haveKey bool) error {
	var last Epoch
	number := int64(1)
	if len(l.older) > 0 {
		last = l.older[len(l.older)-1]
		number = last.Number + 1
	}
	name := files.last()
	complete := !open && last.Number > 0 && files.unborn[number]
	if complete {
		name = EpochFile(number) + unfinished
	}
	for n := range files.unborn {
		if complete && n == number {
			continue
		}
		if err := l.discard(EpochFile(n) + unfinished); err != nil {
			return fmt.Errorf("remove what was left of a roll-over: %w", err)
		}
	}
	if !open && !complete {
		return l.openNew(last, number, haveKey)
	}
	return l.openOld(name, last, complete)
}

// openNew begins an epoch. After a loss its number is one that was never used.
func (l *Log) openNew(last Epoch, number int64, haveKey bool) (err error) {
	l.opening.Created, l.opening.Lost = true, haveKey
	if haveKey {
		number = max(number, l.c.Clock().Unix())
	}
	root := tlog.Hash(last.Root)
	if last.Number == 0 {
		if root, err = tlog.TreeHash(0, nil); err != nil {
			return err
		}
	}
	before := boundaryOf(last.Number, last.Size, root)
	before.Lost, before.Missing = haveKey, int64(len(l.opening.Missing))
	if l.active, err = l.create(number, before, head{signers: []note.Signer{l.signer}}); err != nil {
		return fmt.Errorf("make audit log: %w", err)
	}
	if err := l.place(l.active); err != nil {
		return errors.Join(fmt.Errorf("make audit log: %w", err), l.active.db.Close())
	}
	return nil
}

// openOld examines an epoch whole before bbolt opens it. One that has not its
// name yet gets it then.
func (l *Log) openOld(name string, last Epoch, complete bool) error {
	x, err := l.examine(name)
	if err != nil {
		return err
	}
	_, first, err := parseBoundary(x.first)
	switch {
	case err != nil || x.closed:
		return l.refused(name, "it is not an epoch that is open")
	case complete && (x.number != last.Number+1 || first.Epoch != last.Number):
		return l.refused(name, "it is not the epoch that comes next")
	}
	if complete {
		if err := (summary{Epoch: last}).precedes(first); err != nil {
			return inFile(l.path(name), err)
		}
	}
	e := &active{number: x.number, origin: x.origin, size: x.size, signed: x.last.size, tail: x.tail, began: timeOf(x.first)}
	if err := l.openFile(name, e); err != nil {
		return err
	}
	l.active = e
	if complete {
		err = l.place(e)
	}
	if err = errors.Join(err, l.adopt(x.state)); err != nil {
		return errors.Join(err, e.db.Close())
	}
	return nil
}

// adopt signs what was found, if bbolt has opened what was examined.
func (l *Log) adopt(state fileState) (err error) {
	e := l.active
	if !os.SameFile(e.file, l.examined) {
		return ErrReplaced
	}
	if err := e.view(func(tx *bolt.Tx) error {
		root := uint64(tx.Cursor().Bucket().Root())
		//nolint:gosec // G115: a transaction that is open has a number
		if (fileState{int64(e.db.Info().PageSize), root, uint64(tx.ID())}) != state {
			return l.refused(e.name, "it can be read in two ways")
		}
		return nil
	}); err != nil {
		return err
	}
	if _, err := l.measure(e); err != nil {
		return err
	}
	if n := l.opening.Unsigned; n > 0 {
		l.c.Logger.Warn("audit log was not closed: signing what came after its last checkpoint", slog.Int64(keyCount, n))
	}
	_, err = l.Checkpoint()
	if isFull(err) {
		return nil // it is signed once there is room, before anything is granted
	}
	return err
}

// guarded turns a panic of bbolt into a refusal, and gives its lock back: a
// log that cannot be read must not end the one process that can unmount.
func (l *Log) guarded(f func() error) (err error) {
	defer func() {
		if recover() == nil {
			return
		}
		name := "."
		if l.raw != nil {
			name = filepath.Base(l.raw.Name())
			err = l.raw.Close()
		}
		err = errors.Join(l.refused(name, "its structure cannot be used"), err)
	}()
	return f()
}

const hintRefused = "move the file away as evidence, compare it with what was shipped, then start again with a new log"

func (l *Log) refused(name, what string) *TamperedError {
	return &TamperedError{File: l.path(name), Index: -1, What: what, Hint: hintRefused}
}

// examine reads the file before bbolt does, under the lock that bbolt takes.
func (l *Log) examine(name string) (*examination, error) {
	f, err := openPlain(l.dir, name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	defer f.Close()
	if err := checkPrivate(f, fileMode); err != nil {
		return nil, err
	}
	if err := lock(f, syscall.LOCK_EX); err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at audit log: %w", err)
	}
	x := &examination{ctx: context.Background(), node: l.c.Origin, keys: note.VerifierList(l.verifier)}
	if err := x.run(f, info.Size()); err != nil {
		return nil, inFile(l.path(name), err)
	}
	l.examined = info
	l.opening.Unsigned = x.size - x.last.size
	return x, nil
}
