package inputs

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

const (
	// leastBytes is what a store may be told to keep within at least.
	leastBytes = 64 << 10
	// maxQueueBytes bounds what waits for the disk.
	maxQueueBytes = 8 << 20
	// overloadedFor is how long a loss is of interest.
	overloadedFor = 5 * time.Minute
	// maxThings bounds the memory of the index, at some 100 bytes each.
	maxThings = 1 << 16
	// parts is in how many files the room is divided: what is dropped is one.
	parts = 16
	// closeWait is how long Close waits for the disk.
	closeWait = 5 * time.Second
)

// Config of a Store.
type Config struct {
	Dir      string // of this store alone; made with mode 0700
	MaxBytes int64  // of all its files
	Logger   *slog.Logger
}

// Store keeps inputs and bundles. Its methods may be called at the same time.
type Store struct {
	c   Config
	dir *os.Root

	mu      sync.Mutex
	closed  bool
	index   map[name]place
	files   []*file // oldest first
	next    int64   // number of the last file; the writer's
	bytes   int64   // of them
	queue   []thing
	waiting map[name][]byte // what the queue and the writer hold
	queued  int64           // bytes of it
	dropped int64           // for want of room in the queue, or of a disk
	lost    time.Time       // when something was dropped last
	err     error           // of the last write

	wake chan struct{}
	done chan struct{} // the writer has ended
}

// place is where a thing is.
type place struct {
	file   *file
	at     int64
	length uint32
	seen   bool // since it was written there
}

// thing is what is to be written.
type thing struct {
	name name
	text []byte
}

// Open opens the store in its directory, and makes it on the first start. Files
// that cannot be read are set aside, with a line in the log.
func Open(c Config) (*Store, error) {
	switch {
	case c.Dir == "":
		return nil, errors.New("configure kept inputs: Dir is missing")
	case c.MaxBytes < leastBytes:
		return nil, fmt.Errorf("configure kept inputs: MaxBytes is below %d", leastBytes)
	case c.Logger == nil:
		return nil, errors.New("configure kept inputs: Logger is missing")
	}
	dir, err := makeDirectory(c.Dir)
	if err != nil {
		return nil, err
	}
	s := newStore(c, dir)
	if err := s.load(s.setAside); err != nil {
		return nil, errors.Join(err, s.closeFiles(), dir.Close())
	}
	go s.write()
	return s, nil
}

// Read opens the store in a directory to look at, and changes nothing: a plugin
// may be writing there. What it cannot read is as if it were not there.
func Read(dir string) (*Store, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open kept inputs: %w", err)
	}
	s := newStore(Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)}, root)
	s.closed = true
	close(s.done)
	if err := s.load(func(string, error) {}); err != nil {
		return nil, errors.Join(err, s.closeFiles(), root.Close())
	}
	return s, nil
}

func newStore(c Config, dir *os.Root) *Store {
	return &Store{
		c: c, dir: dir, index: map[name]place{}, waiting: map[name][]byte{},
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
}

// Keep takes the canonical text of an input, which must not change any more,
// under its SHA-256. It does not wait.
func (s *Store) Keep(sha256 string, text []byte) {
	if n, err := inputName(sha256); err == nil {
		s.push(thing{n, text})
	}
}

// KeepBundle takes a bundle as a tarball, which must not change any more, under
// the bundle's digest. It does not wait. Whoever reads it back holds the
// bundle's digest against it.
func (s *Store) KeepBundle(digest string, tarball []byte) {
	if n, err := bundleName(digest); err == nil {
		s.push(thing{n, tarball})
	}
}

// Seen says that a decision was made from this input, by this bundle: they are
// dropped later than what was not of use since. It does not wait.
func (s *Store) Seen(sha256, bundleDigest string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n, err := inputName(sha256); err == nil {
		s.see(n)
	}
	if n, err := bundleName(bundleDigest); err == nil {
		s.see(n)
	}
}

// see marks what is kept. The caller holds the lock.
func (s *Store) see(n name) bool {
	p, ok := s.index[n]
	if ok && !p.seen {
		p.seen = true
		s.index[n] = p
	}
	return ok
}

func (s *Store) push(t thing) {
	size := int64(len(t.text))
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, waits := s.waiting[t.name]; s.closed || waits || s.see(t.name) {
		return
	}
	if s.queued > 0 && s.queued+size > maxQueueBytes || size > s.c.MaxBytes/4 || size > int64(t.name.kind.longest()) {
		s.lose()
		return
	}
	s.queue = append(s.queue, t)
	s.waiting[t.name] = t.text
	s.queued += size
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Input returns the text of an input. An error is ErrGone or ErrDamaged, or
// says that this is no SHA-256.
func (s *Store) Input(sha256 string) ([]byte, error) {
	n, err := inputName(sha256)
	if err != nil {
		return nil, err
	}
	return s.get(n)
}

// Bundle returns the tarball of a bundle. An error is as that of Input.
func (s *Store) Bundle(digest string) ([]byte, error) {
	n, err := bundleName(digest)
	if err != nil {
		return nil, err
	}
	return s.get(n)
}

// Each gives f every input that is there and whole, in no order. An error of f
// ends it.
func (s *Store) Each(f func(sha256 string, text []byte) error) error {
	for _, n := range s.names(kindInput) {
		text, err := s.get(n)
		if err != nil {
			continue
		}
		if err := f(n.String(), text); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) names(k kind) []name {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []name
	for n := range s.index {
		if n.kind == k {
			list = append(list, n)
		}
	}
	for n := range s.waiting {
		if _, ok := s.index[n]; !ok && n.kind == k {
			list = append(list, n)
		}
	}
	return list
}

func (s *Store) get(n name) ([]byte, error) {
	s.mu.Lock()
	text, waits := s.waiting[n]
	p, ok := s.index[n]
	s.mu.Unlock()
	switch {
	case waits:
		return bytes.Clone(text), nil
	case !ok:
		return nil, ErrGone
	}
	b := make([]byte, headSize+int(p.length))
	if _, err := p.file.f.ReadAt(b, p.at-headSize); err != nil {
		if errors.Is(err, os.ErrClosed) { // it was dropped in between
			return nil, ErrGone
		}
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	h, err := decodeHead(b)
	text = b[headSize:]
	if err != nil || h.name != n || sha256.Sum256(text) != h.sum {
		return nil, ErrDamaged
	}
	return text, nil
}

// Stats is what a store holds.
type Stats struct {
	Inputs, Bundles int
	Bytes           int64 // of the files
	Dropped         int64 // things that were not kept, since it was opened
}

// Stats returns what the store holds now.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Stats{Bytes: s.bytes, Dropped: s.dropped}
	for n := range s.index {
		if n.kind == kindBundle {
			out.Bundles++
		}
	}
	out.Inputs = len(s.index) - out.Bundles
	return out
}

// lose counts a thing that is not kept. The caller holds the lock.
func (s *Store) lose() {
	s.dropped++
	s.lost = time.Now()
}

// Overloaded reports whether something was not kept in the last minutes.
func (s *Store) Overloaded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.lost.IsZero() && time.Since(s.lost) < overloadedFor
}

// Failure returns why the last thing could not be written, nil if it was.
func (s *Store) Failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close writes what waits and closes the files. A disk that hangs is not waited
// for: the process must end, and what is kept is a hint.
func (s *Store) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.wake)
	}
	s.mu.Unlock()
	patience := time.NewTimer(closeWait)
	defer patience.Stop()
	select {
	case <-s.done:
		return errors.Join(s.closeFiles(), s.dir.Close())
	case <-patience.C:
		return errHangs
	}
}
