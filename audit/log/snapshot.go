package log

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Snapshot writes a tar stream of consistent copies: every epoch, oldest first,
// the active one with a checkpoint over all of it, and node.vkey before them. It
// returns the place after the last leaf. The writer does not wait for it, and
// what is deleted meanwhile is in it all the same; Close ends it.
func (l *Log) Snapshot(w io.Writer) (Position, error) {
	if err := l.checkFile(); err != nil {
		return Position{}, err
	}
	s, err := l.takeHold()
	if err != nil {
		return Position{}, err
	}
	out := tar.NewWriter(untilQuit{w, l.quit})
	err = errors.Join(s.write(out, l.c.Clock()), s.close())
	if err == nil {
		err = out.Close()
	}
	if err != nil {
		return Position{}, fmt.Errorf("write snapshot: %w", err)
	}
	return s.end, nil
}

// untilQuit stops writing when the log is closed, which waits for it.
type untilQuit struct {
	io.Writer
	quit chan struct{}
}

// Write fails once the log is being closed.
func (u untilQuit) Write(b []byte) (int, error) {
	select {
	case <-u.quit:
		return 0, ErrClosed
	default:
		return u.Writer.Write(b)
	}
}

// snapshot holds everything that it will copy: files that are open stay
// readable when their names are gone, and so does a state that a transaction
// reads.
type snapshot struct {
	vkey   []byte
	older  []*closedFile
	active *active
	tx     *bolt.Tx
	end    Position
}

func (l *Log) takeHold() (s *snapshot, err error) {
	l.writing.Lock()
	defer l.writing.Unlock()
	if _, err := l.signActive(); err != nil {
		return nil, err
	}
	s = &snapshot{}
	if s.active, err = l.hold(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.vkey, err = l.dir.ReadFile(VKeyFileName); err != nil {
		return s, err
	}
	if s.tx, err = s.active.db.Begin(false); err != nil {
		return s, err
	}
	l.mu.Lock()
	older, verifier := l.older, l.verifier
	s.end = Position{s.active.number, s.active.size}
	l.mu.Unlock()
	for _, e := range older {
		c, err := openClosed(l.dir, EpochFile(e.Number), verifier)
		if err != nil {
			return s, err
		}
		s.older = append(s.older, c)
	}
	return s, nil
}

func (s *snapshot) close() (err error) {
	if s.tx != nil {
		err = s.tx.Rollback()
	}
	s.active.readers.Done()
	for _, c := range s.older {
		err = errors.Join(err, c.close())
	}
	return err
}

func (s *snapshot) write(out *tar.Writer, now time.Time) error {
	entry := func(name string, mode, size int64) error {
		return out.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: size, ModTime: now, Format: tar.FormatPAX, Typeflag: tar.TypeReg})
	}
	if err := entry(VKeyFileName, publicMode, int64(len(s.vkey))); err != nil {
		return err
	}
	if _, err := out.Write(s.vkey); err != nil {
		return err
	}
	for _, c := range s.older {
		if err := errors.Join(entry(EpochFile(c.x.number), fileMode, c.bytes()), c.copyTo(out)); err != nil {
			return err
		}
	}
	if err := entry(EpochFile(s.active.number), fileMode, s.tx.Size()); err != nil {
		return err
	}
	_, err := s.tx.WriteTo(out)
	return err
}
