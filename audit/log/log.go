package log

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	defaultMaxBytes        = 64 << 20
	defaultCheckpointEvery = 10 * time.Second
	// MaxLeafBytes is the size of the largest leaf.
	MaxLeafBytes = 32 << 10
	// grantPercent of the room is for everything; the rest is for
	// AppendReserved alone.
	grantPercent = 80
	// failedFor is how long a full disk counts as the state of the log after
	// the last append that met it.
	failedFor = 10 * time.Second
	lockWait  = time.Second
)

// Config of a Log.
type Config struct {
	Dir             string        // of this log alone; made with mode 0700
	Origin          string        // name of the log in checkpoints: <cluster>/nodes/<node>
	MaxBytes        int64         // size of the file; absent: 64 MiB
	CheckpointEvery time.Duration // how long a new event waits for a signature; absent: 10 s
	Clock           func() time.Time
	Logger          *slog.Logger
}

// Log is an open log. Its methods may be called at the same time.
type Log struct {
	c        Config
	dir      *os.Root
	db       *bolt.DB
	signer   note.Signer
	verifier note.Verifier

	requests chan *request
	quit     chan struct{} // ends Append
	done     chan struct{} // the writer has ended

	writing sync.Mutex // held over a transaction and what is remembered of it

	mu     sync.Mutex
	closed bool
	size   int64 // leaves
	signed int64 // leaves that a checkpoint covers
	tail   tail  // the others
	used   int64 // bytes of the file
	failed error // of the last append
	failAt time.Time
	broken error       // until the process starts again
	file   fs.FileInfo // as it was opened
	// examined is the file that Open read before bbolt did.
	examined fs.FileInfo
	opening  Opening
	raw      *os.File // bbolt's
	closing  sync.Once
}

// Open opens the log in its directory, and makes it and the node's key on the
// first start. A log that is not what its checkpoints say is a *TamperedError.
func Open(c Config) (*Log, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	dir, err := openDirectory(c.Dir)
	if err != nil {
		return nil, err
	}
	l := &Log{c: c, dir: dir, requests: make(chan *request, maxBatch), quit: make(chan struct{}), done: make(chan struct{})}
	if err := l.guarded(l.open); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	go l.write()
	return l, nil
}

func (c *Config) complete() error {
	switch {
	case c.Dir == "":
		return errors.New("configure audit log: Dir is missing")
	case !originPattern.MatchString(c.Origin):
		return fmt.Errorf("configure audit log: Origin %q must be letters, digits, and . _ - /", c.Origin)
	case c.Logger == nil:
		return errors.New("configure audit log: Logger is missing")
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.MaxBytes <= 0 {
		c.MaxBytes = defaultMaxBytes
	}
	if c.CheckpointEvery <= 0 {
		c.CheckpointEvery = defaultCheckpointEvery
	}
	return nil
}

func (l *Log) path() string { return filepath.Join(l.c.Dir, FileName) }

// Tree returns the number of leaves and the root over them.
func (l *Log) Tree() (size int64, root [32]byte, err error) {
	err = l.view(func(tx *bolt.Tx) error {
		var ok bool
		if size, ok = number(tx.Bucket([]byte(bucketMeta)).Get([]byte(metaSize))); !ok {
			return errors.New("size is missing")
		}
		root, err = tlog.TreeHash(size, hashReader{tx.Bucket([]byte(bucketHashes))})
		return err
	})
	return size, root, err
}

// VerifierKey returns the public key of the node's checkpoints.
func (l *Log) VerifierKey() (string, error) {
	text, err := l.dir.ReadFile(VKeyFileName)
	return string(text), err
}

// Each gives f a copy of every leaf in order, of the log as it is now.
func (l *Log) Each(f func(index int64, leaf []byte) error) error {
	return l.view(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte(bucketEvents)).ForEach(func(k, leaf []byte) error {
			n, ok := number(k)
			if !ok {
				return tampered(-1, "an event has no index")
			}
			return f(n, append([]byte(nil), leaf...))
		})
	})
}

// Snapshot writes a consistent copy of the file, which Verify takes, with a
// checkpoint over all of it.
func (l *Log) Snapshot(w io.Writer) (size int64, err error) {
	if _, err := l.Checkpoint(); err != nil {
		return 0, err
	}
	err = l.view(func(tx *bolt.Tx) error {
		var ok bool
		if size, ok = number(tx.Bucket([]byte(bucketMeta)).Get([]byte(metaSize))); !ok {
			return errors.New("size is missing")
		}
		_, err := tx.WriteTo(w)
		return err
	})
	return size, err
}

// view reads the log, unless the file is not ours any more: reading beyond the
// end of a truncated file would be a fault.
func (l *Log) view(f func(*bolt.Tx) error) error {
	if err := l.checkFile(); err != nil {
		return err
	}
	err := l.db.View(f)
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	return err
}

// Checkpoint signs the log as it is now.
func (l *Log) Checkpoint() ([]byte, error) {
	if err := l.checkFile(); err != nil {
		return nil, err
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	var size, used int64
	var text []byte
	err := l.db.Update(func(tx *bolt.Tx) (err error) {
		used = tx.Size()
		size, text, err = storeCheckpoint(tx, l.signer)
		return err
	})
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return nil, ErrClosed
	}
	if err != nil {
		return nil, fmt.Errorf("store checkpoint: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.signed, l.used, l.tail = size, max(l.used, used), tail{}
	return text, nil
}

// Healthy returns why Append would not take a leaf of any size now.
func (l *Log) Healthy() error {
	if err := l.checkFile(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return ErrClosed
	case l.broken != nil:
		return l.broken
	case l.failed != nil && l.c.Clock().Sub(l.failAt) < failedFor:
		return l.failed
	case l.used+costOf(MaxLeafBytes) > l.room(false):
		return ErrFull
	}
	return nil
}

// checkFile notices that the file was unlinked, replaced or truncated: without
// it, events would go on being acknowledged into a file that nobody has
// (hashicorp/vault#31718).
func (l *Log) checkFile() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	if l.file == nil {
		return nil
	}
	now, err := os.Lstat(l.path())
	if err != nil || !os.SameFile(now, l.file) || now.Size() < l.used {
		return ErrReplaced
	}
	return nil
}

// room is how many bytes the file may have for this class of leaf.
func (l *Log) room(reserved bool) int64 {
	if reserved {
		return l.c.MaxBytes
	}
	return l.c.MaxBytes / 100 * grantPercent
}

// Close writes what is queued, signs it, and closes the file.
func (l *Log) Close() error {
	var err error
	l.closing.Do(func() {
		close(l.quit)
		<-l.done
		if _, e := l.Checkpoint(); e != nil {
			err = fmt.Errorf("sign the end of the audit log: %w", e)
		}
		l.mu.Lock()
		l.closed = true
		l.mu.Unlock()
		err = errors.Join(err, l.db.Close(), l.dir.Close())
	})
	return err
}
