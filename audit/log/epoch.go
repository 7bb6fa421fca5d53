package log

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/mod/sumdb/tlog"
)

// Position is the place of a leaf: its epoch, and its index there.
type Position struct {
	Epoch, Index int64
}

// Epoch is one file of the log, with a tree of its own.
type Epoch struct {
	Number   int64
	Origin   string // <origin of the log>/<number>
	Size     int64  // leaves
	Root     [32]byte
	Bytes    int64 // of the file that are in use
	Closed   bool
	From, To time.Time // of the first and the last leaf; To is absent while it is open
}

// active is the epoch that is written to.
type active struct {
	number int64
	origin string
	name   string // of its file; guarded by Log.mu
	db     *bolt.DB
	file   fs.FileInfo // as it was opened
	raw    *os.File    // bbolt's
	// readers are those inside a transaction. The file is closed after them.
	readers sync.WaitGroup

	// Guarded by Log.mu.
	size   int64     // leaves
	signed int64     // leaves that a checkpoint covers
	tail   tail      // the others
	used   int64     // bytes of the file
	given  int64     // bytes that the disk has given to it for certain, or 0
	began  time.Time // as its first leaf says
}

// growBy is how far bbolt extends a file beyond its need, where provide has not
// done it before.
const growBy = 64 << 10

// openFile opens a file of ours. Its descriptor comes from the directory's, and
// follows no link. The map is large from the start: to make it larger, bbolt
// waits for every reader, and the writer with it.
func (l *Log) openFile(name string, e *active) error {
	db, err := bolt.Open(name, fileMode, &bolt.Options{
		Timeout: lockWait, FreelistType: bolt.FreelistMapType, NoFreelistSync: true, InitialMmapSize: int(2 * l.c.EpochBytes),
		OpenFile: func(_ string, flag int, mode fs.FileMode) (f *os.File, err error) {
			f, err = openPlain(l.dir, name, flag, mode)
			l.raw, e.raw = f, f
			return f, err
		},
	})
	if errors.Is(err, berrors.ErrTimeout) {
		return ErrLocked
	}
	if err != nil {
		return fmt.Errorf("open audit log: %w", err)
	}
	db.AllocSize = growBy
	e.db, e.name = db, name
	if e.file, err = l.dir.Lstat(name); err != nil {
		return errors.Join(fmt.Errorf("look at audit log: %w", err), db.Close())
	}
	return nil
}

// create makes an epoch with its first leaf and its first checkpoint under
// another name, and makes sure that the disk knows of it: the name of an epoch
// is never that of half a file, nor of one without a signature.
func (l *Log) create(number int64, before Boundary, h head) (*active, error) {
	h.origin = epochOrigin(l.c.Origin, number)
	leaf, err := l.boundary(KindOpened, before)
	if err != nil {
		return nil, err
	}
	name := EpochFile(number) + unfinished
	if err := l.dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	e := &active{number: number, origin: h.origin, size: 1, signed: 1, began: timeOf(leaf)}
	if err := l.openFile(name, e); err != nil {
		return nil, errors.Join(err, l.discard(name))
	}
	if err := errors.Join(l.begin(e, leaf, h), syncDirectory(l.dir)); err != nil {
		return nil, errors.Join(err, e.db.Close(), l.discard(name))
	}
	return e, nil
}

// discard removes a file that did not become an epoch: on a full disk, its room
// is needed.
func (l *Log) discard(name string) error {
	if err := l.dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (l *Log) begin(e *active, leaf []byte, h head) error {
	return e.db.Update(func(tx *bolt.Tx) error {
		for _, bucket := range buckets() {
			if _, err := tx.CreateBucket([]byte(bucket)); err != nil {
				return err
			}
		}
		for k, v := range map[string][]byte{metaFormat: []byte(formatV2), metaOrigin: []byte(h.origin), metaSize: key(0)} {
			if err := tx.Bucket([]byte(bucketMeta)).Put([]byte(k), v); err != nil {
				return err
			}
		}
		if err := addLeaves(tx, 0, [][]byte{leaf}); err != nil {
			return err
		}
		_, _, err := h.store(tx)
		return err
	})
}

// place gives a created epoch its name.
func (l *Log) place(e *active) error {
	name := EpochFile(e.number)
	if err := moveIntoPlace(l.dir, name); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e.name = name
	return nil
}

// hold returns the active epoch, whose file stays open until its readers are
// done.
func (l *Log) hold() (*active, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	l.active.readers.Add(1)
	return l.active, nil
}

// view reads the active epoch, unless the file is not ours any more: reading
// beyond the end of a truncated file would be a fault.
func (l *Log) view(f func(*active, *bolt.Tx) error) error {
	e, err := l.hold()
	if err != nil {
		return err
	}
	defer e.readers.Done()
	if err := l.checkFile(); err != nil {
		return err
	}
	return e.view(func(tx *bolt.Tx) error { return f(e, tx) })
}

func (e *active) view(f func(*bolt.Tx) error) error {
	err := e.db.View(f)
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	return err
}

// measure returns how many bytes of its file an epoch uses, and remembers it.
// It is exact as long as nobody writes. Inside a transaction that writes it
// cannot be known: pages are given out when it ends.
func (l *Log) measure(e *active) (used int64, err error) {
	err = e.view(func(tx *bolt.Tx) error {
		used = tx.Size()
		return nil
	})
	if err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e.used = used
	return used, nil
}

// Epochs returns what the log keeps, oldest first. The last one is open.
func (l *Log) Epochs() ([]Epoch, error) {
	var list []Epoch
	err := l.view(func(e *active, tx *bolt.Tx) error {
		size, root, err := treeOf(tx)
		if err != nil {
			return err
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, s := range l.older {
			if s.Number < e.number {
				list = append(list, s)
			}
		}
		list = append(list, Epoch{Number: e.number, Origin: e.origin, Size: size, Root: root, Bytes: tx.Size(), From: e.began})
		return nil
	})
	return list, err
}

// Tree returns the number of leaves of the active epoch, and the root over them.
func (l *Log) Tree() (size int64, root [32]byte, err error) {
	err = l.view(func(_ *active, tx *bolt.Tx) (err error) {
		size, root, err = treeOf(tx)
		return err
	})
	return size, root, err
}

func treeOf(tx *bolt.Tx) (size int64, root tlog.Hash, err error) {
	size, ok := number(tx.Bucket([]byte(bucketMeta)).Get([]byte(metaSize)))
	if !ok {
		return 0, root, errors.New("size is missing")
	}
	root, err = tlog.TreeHash(size, hashReader{tx.Bucket([]byte(bucketHashes))})
	return size, root, err
}
