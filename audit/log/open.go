package log

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"syscall"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/mod/sumdb/note"
)

// Opening is what Open found. Whoever starts should put it on record: each of
// its marks is what a first start or a crash leaves, or somebody's hand.
type Opening struct {
	Created bool // there was no log, so one was made
	// Lost is set if there was no log although a key of one was there: the file
	// was removed, or a first start was interrupted.
	Lost bool
	// Unsigned is how many events came after the last checkpoint. They were
	// within the bounds of what a crash leaves, and are signed now.
	Unsigned int64
}

// Opening returns what Open found.
func (l *Log) Opening() Opening { return l.opening }

func (l *Log) open() error {
	_, err := l.dir.Lstat(FileName)
	absent := errors.Is(err, fs.ErrNotExist)
	k, err := loadKey(l.dir, l.c.Origin, !absent)
	if err != nil {
		return err
	}
	l.signer, l.verifier = k.signer, k.verifier
	l.opening = Opening{Created: absent, Lost: absent && k.found}
	if k.aside != "" {
		l.c.Logger.Warn("public key of the audit log was not that of its key, and was set aside", slog.String(keyFile, k.aside))
	}
	if absent {
		if err := l.create(); err != nil {
			return fmt.Errorf("make audit log: %w", err)
		}
	}
	state, err := l.examine()
	if err != nil {
		return err
	}
	if l.db, err = l.openFile(FileName); err != nil {
		return err
	}
	if err = l.adopt(state); err != nil {
		return errors.Join(err, l.db.Close())
	}
	return nil
}

// adopt signs what was found, if bbolt has opened what was examined.
func (l *Log) adopt(state fileState) (err error) {
	if l.file, err = l.dir.Lstat(FileName); err != nil {
		return fmt.Errorf("look at audit log: %w", err)
	}
	if !os.SameFile(l.file, l.examined) {
		return ErrReplaced
	}
	if err := l.db.View(func(tx *bolt.Tx) error {
		root := uint64(tx.Cursor().Bucket().Root())
		//nolint:gosec // G115: a transaction that is open has a number
		if (fileState{int64(l.db.Info().PageSize), root, uint64(tx.ID())}) != state {
			return l.refused("it can be read in two ways")
		}
		return nil
	}); err != nil {
		return err
	}
	if n := l.opening.Unsigned; n > 0 {
		l.c.Logger.Warn("audit log was not closed: signing what came after its last checkpoint", slog.Int64(keyCount, n))
	}
	_, err = l.Checkpoint()
	return err
}

// guarded turns a panic of bbolt into a refusal, and gives its lock back: a
// log that cannot be read must not end the one process that can unmount.
func (l *Log) guarded(f func() error) (err error) {
	defer func() {
		if recover() == nil {
			return
		}
		err = l.refused("its structure cannot be used")
		if l.raw != nil {
			err = errors.Join(err, l.raw.Close())
		}
	}()
	return f()
}

const hintRefused = "move the file away as evidence, compare it with what was shipped, then start again with a new log"

func (l *Log) refused(what string) *TamperedError {
	return &TamperedError{File: l.path(), Index: -1, What: what, Hint: hintRefused}
}

// create makes an empty log with its first checkpoint under another name, so
// that audit.db is never half a log and never one without a signature.
func (l *Log) create() error {
	name := FileName + unfinished
	if err := l.dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := l.openFile(name)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, bucket := range buckets() {
			if _, err := tx.CreateBucket([]byte(bucket)); err != nil {
				return err
			}
		}
		for k, v := range map[string][]byte{metaFormat: []byte(formatV1), metaOrigin: []byte(l.c.Origin), metaSize: key(0)} {
			if err := tx.Bucket([]byte(bucketMeta)).Put([]byte(k), v); err != nil {
				return err
			}
		}
		_, _, err := storeCheckpoint(tx, l.signer)
		return err
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	return moveIntoPlace(l.dir, FileName)
}

// openFile opens a file of ours. Its descriptor comes from the directory's, and
// follows no link.
func (l *Log) openFile(name string) (*bolt.DB, error) {
	db, err := bolt.Open(name, fileMode, &bolt.Options{
		Timeout: lockWait, FreelistType: bolt.FreelistMapType, NoFreelistSync: true,
		OpenFile: func(name string, flag int, mode fs.FileMode) (f *os.File, err error) {
			f, err = openPlain(l.dir, name, flag, mode)
			l.raw = f
			return f, err
		},
	})
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, ErrLocked
	}
	if err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	return db, nil
}

// examine reads the file before bbolt does, under the lock that bbolt takes.
func (l *Log) examine() (state fileState, err error) {
	f, err := openPlain(l.dir, FileName, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return state, fmt.Errorf("open audit log: %w", err)
	}
	defer f.Close()
	if err := checkPrivate(f, fileMode); err != nil {
		return state, err
	}
	if err := lock(f, syscall.LOCK_EX); err != nil {
		return state, err
	}
	info, err := f.Stat()
	if err != nil {
		return state, fmt.Errorf("look at audit log: %w", err)
	}
	x := &examination{ctx: context.Background(), node: l.c.Origin, keys: note.VerifierList(l.verifier)}
	if err := x.run(f, info.Size()); err != nil {
		if t, ok := errors.AsType[*TamperedError](err); ok {
			t.File, t.Hint = l.path(), hintRefused
		}
		return state, err
	}
	l.size, l.signed, l.examined = x.size, x.last.size, info
	l.opening.Unsigned = x.size - x.last.size
	return x.state, nil
}
