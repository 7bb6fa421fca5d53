package log

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/mod/sumdb/note"
)

const (
	defaultEpochBytes      = 64 << 20
	defaultEpochAge        = 30 * 24 * time.Hour
	defaultRetentionBytes  = 1 << 30
	defaultCheckpointEvery = 10 * time.Second
	// smallestEpoch is below what is of use: every epoch has files, keys and
	// signatures of its own.
	smallestEpoch = 1 << 20
	// MaxLeafBytes is the size of the largest leaf.
	MaxLeafBytes = 32 << 10
	// failedFor is how long a full disk counts as the state of the log after
	// the last append that met it.
	failedFor = 10 * time.Second
	lockWait  = time.Second
)

// Config of a Log.
type Config struct {
	Dir    string // of this log alone; made with mode 0700
	Origin string // name of the node's key: <cluster>/nodes/<node>; that of a tree is <Origin>/<epoch>
	// Boundary makes the leaf of an event about the log itself: of its type, and
	// with the object "log" as given. Package audit has one.
	Boundary func(kind string, state []byte) (leaf []byte, err error)

	EpochBytes     int64         // when an epoch ends; absent: 64 MiB, or a quarter of a small retention
	EpochAge       time.Duration // when it ends in any case; absent: 30 days
	RetentionBytes int64         // of all epochs together; absent: 1 GiB
	// Needed returns the oldest epoch that somebody needs, if anybody does: it
	// and those after it are not deleted. It must not block. Absent: nobody.
	Needed          func() (epoch int64, anybody bool)
	CheckpointEvery time.Duration // how long a new event waits for a signature; absent: 10 s
	Clock           func() time.Time
	Logger          *slog.Logger
}

// Log is an open log. Its methods may be called at the same time.
type Log struct {
	c    Config
	dir  *os.Root
	held *os.File // the directory, locked

	requests chan *request
	commands chan func()   // for the writer
	quit     chan struct{} // ends Append
	done     chan struct{} // the writer has ended

	// writing is held over a transaction and what is remembered of it, and
	// while epochs come and go.
	writing sync.Mutex

	mu       sync.Mutex
	closed   bool
	signer   note.Signer
	verifier note.Verifier
	older    []Epoch // closed ones that are kept
	active   *active
	grown    chan struct{} // closed when there are more leaves
	deleted  Position      // the end of the last epoch that was deleted
	spent    bool          // the reserve is not whole
	failed   error         // of the last append
	failAt   time.Time
	broken   error // until the process starts again

	rollAt    time.Time // when a roll-over failed last
	undeleted int64     // an epoch that could not be deleted
	// examined is the file that Open read before bbolt did.
	examined fs.FileInfo
	opening  Opening
	raw      *os.File // bbolt's last
	step     func(string)
	once     sync.Once
	closing  sync.WaitGroup // files of ended epochs that are being closed
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
	l := &Log{
		c: c, dir: dir, requests: make(chan *request, maxBatch), commands: make(chan func()),
		quit: make(chan struct{}), done: make(chan struct{}), grown: make(chan struct{}),
	}
	if err := l.guarded(l.open); err != nil {
		return nil, errors.Join(err, l.letGo())
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
	case c.Boundary == nil:
		return errors.New("configure audit log: Boundary is missing")
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.EpochAge <= 0 {
		c.EpochAge = defaultEpochAge
	}
	if c.CheckpointEvery <= 0 {
		c.CheckpointEvery = defaultCheckpointEvery
	}
	if c.RetentionBytes <= 0 {
		c.RetentionBytes = defaultRetentionBytes
	}
	if c.EpochBytes <= 0 {
		c.EpochBytes = min(defaultEpochBytes, c.RetentionBytes/4)
	}
	if c.EpochBytes < smallestEpoch || c.EpochBytes > c.RetentionBytes/2 {
		return fmt.Errorf("configure audit log: epochs of %d bytes: at least %d (1 MiB) and at most half of the retention of %d", c.EpochBytes, smallestEpoch, c.RetentionBytes)
	}
	return nil
}

func (l *Log) path(name string) string { return filepath.Join(l.c.Dir, name) }

// VerifierKey returns the public key of the node's checkpoints.
func (l *Log) VerifierKey() (string, error) {
	text, err := l.dir.ReadFile(VKeyFileName)
	return string(text), err
}

// Checkpoint signs the active epoch as it is now.
func (l *Log) Checkpoint() ([]byte, error) {
	l.writing.Lock()
	defer l.writing.Unlock()
	return l.signActive()
}

// signActive is Checkpoint for whoever holds writing.
func (l *Log) signActive() ([]byte, error) {
	if err := l.checkFile(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	e, h := l.active, head{l.active.origin, []note.Signer{l.signer}}
	l.mu.Unlock()
	var c checkpoint
	var text []byte
	err := e.db.Update(func(tx *bolt.Tx) (err error) {
		c, text, err = h.store(tx)
		return err
	})
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return nil, ErrClosed
	}
	if err != nil {
		return nil, fmt.Errorf("store checkpoint: %w", err)
	}
	if _, err := l.measure(e); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e.signed, e.tail = c.size, tail{}
	return text, nil
}

// Healthy returns why Append would not take a leaf of any size now.
func (l *Log) Healthy() error {
	if err := l.checkFile(); err != nil {
		return err
	}
	needed := l.needed()
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return ErrClosed
	case l.broken != nil:
		return l.broken
	case l.spent:
		return errSpent()
	case l.failed != nil && l.c.Clock().Sub(l.failAt) < failedFor:
		return l.failed
	case needed <= l.active.number && l.heldLocked(needed)+costOf(MaxLeafBytes) > l.room(false):
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
	e := l.active
	now, err := os.Lstat(l.path(e.name))
	if err != nil || !os.SameFile(now, e.file) || now.Size() < e.used {
		return ErrReplaced
	}
	return nil
}

// Close writes what is queued, signs it, and closes the files.
func (l *Log) Close() error {
	var err error
	l.once.Do(func() {
		close(l.quit)
		<-l.done
		if _, e := l.Checkpoint(); e != nil {
			err = fmt.Errorf("sign the end of the audit log: %w", e)
		}
		l.mu.Lock()
		l.closed = true
		l.mu.Unlock()
		l.closing.Wait()
		l.active.readers.Wait()
		err = errors.Join(err, l.shut(l.active), l.letGo())
	})
	return err
}

// letGo gives the directory back.
func (l *Log) letGo() error {
	err := l.dir.Close()
	if l.held != nil {
		err = errors.Join(err, l.held.Close())
	}
	return err
}
