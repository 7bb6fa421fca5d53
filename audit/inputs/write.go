package inputs

import (
	"crypto/sha256"
	"errors"
	"log/slog"
	"os"
	"slices"
	"time"
)

// tellEvery keeps a disk that stays broken from filling the operator's log.
const tellEvery = time.Minute

// writer is the only one that writes files.
type writer struct {
	s       *Store
	current *file // nil: the next thing begins one
	told    time.Time
	missing int64 // things that were not kept, when that was told last
}

// write writes what is queued until the store is closed.
func (s *Store) write() {
	defer close(s.done)
	w := &writer{s: s}
	for range s.wake {
		w.drain()
	}
	w.drain()
}

func (w *writer) drain() {
	for {
		batch := w.s.take()
		if len(batch) == 0 {
			w.tell()
			return
		}
		err := w.store(batch)
		w.s.settle(batch, err)
		w.shrink()
	}
}

func (s *Store) take() []thing {
	s.mu.Lock()
	defer s.mu.Unlock()
	batch := s.queue
	s.queue = nil
	return batch
}

// settle ends the wait of a batch.
func (s *Store) settle(batch []thing, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
	for _, t := range batch {
		delete(s.waiting, t.name)
		s.queued -= int64(len(t.text))
		if _, ok := s.index[t.name]; !ok {
			s.lose()
		}
	}
}

// tell says what was not kept, not too often.
func (w *writer) tell() {
	now := time.Now()
	w.s.mu.Lock()
	dropped, err := w.s.dropped, w.s.err
	w.s.mu.Unlock()
	if dropped == w.missing || now.Sub(w.told) < tellEvery {
		return
	}
	w.s.c.Logger.Warn("inputs of decisions were not kept, they cannot be replayed", slog.Int64(keyCount, dropped-w.missing), slog.Any(keyError, err))
	w.told, w.missing = now, dropped
}

// store writes things behind each other. An error leaves out the rest: what is
// kept is a hint, and the disk may have room again for the next.
func (w *writer) store(batch []thing) error {
	for _, t := range batch {
		if t.name.kind == kindInput && sha256.Sum256(t.text) != t.name.digest {
			return errors.New("an input is not what its digest says, which is a defect")
		}
		if err := w.append(t); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) append(t thing) error {
	if err := w.begin(); err != nil {
		return err
	}
	f := w.current
	h := head{name: t.name, length: uint32(len(t.text)), sum: sha256.Sum256(t.text)} //nolint:gosec // G115: push has bounded it
	record := slices.Concat(h.encode(), t.text)
	if _, err := f.f.WriteAt(record, f.size); err != nil {
		w.current = nil // what is there of the record is past the end that readers go by
		return errors.Join(err, f.f.Truncate(f.size))
	}
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.s.index[t.name] = place{file: f, at: f.size + headSize, length: h.length}
	f.size += int64(len(record))
	w.s.bytes += int64(len(record))
	return nil
}

// begin makes a file where there is none to write to, or where it is long
// enough.
func (w *writer) begin() error {
	if w.current != nil && w.current.size < w.s.c.MaxBytes/parts {
		return nil
	}
	w.s.next++ // also where that fails: a file that is in the way stays there
	number := w.s.next
	one := &file{number: number, size: int64(len(firstLine))}
	var err error
	if one.f, err = w.s.dir.OpenFile(one.name(), os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode); err != nil {
		return err
	}
	if _, err = one.f.WriteAt([]byte(firstLine), 0); err != nil {
		return errors.Join(err, one.f.Close(), w.s.dir.Remove(one.name()))
	}
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.s.files = append(w.s.files, one)
	w.s.bytes += one.size
	w.current = one
	return nil
}

// shrink drops the oldest files until the rest is within bounds. What was of use
// since it was written is written anew, up to an eighth of the room a time: so
// the bundle in force stays, and no attacker has everything copied for ever.
func (w *writer) shrink() {
	saved := w.s.c.MaxBytes / 8
	for w.s.tooLarge() {
		left, err := w.dropOldest(saved)
		if err != nil {
			w.s.c.Logger.Warn("kept inputs not made smaller", slog.Any(keyError, err))
			return
		}
		saved = left
	}
}

func (s *Store) tooLarge() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.files) > 0 && (s.bytes > s.c.MaxBytes || len(s.index) > maxThings || len(s.files) > maxFiles)
}

func (w *writer) dropOldest(room int64) (left int64, err error) {
	s := w.s
	s.mu.Lock()
	oldest := s.files[0]
	var useful []thing
	for n, p := range s.index {
		if p.file == oldest && p.seen {
			useful = append(useful, thing{name: n})
		}
	}
	s.mu.Unlock()
	slices.SortFunc(useful, func(a, b thing) int { return int(a.name.kind) - int(b.name.kind) }) // bundles first
	saved := useful[:0]
	for _, t := range useful {
		if t.text, err = s.get(t.name); err != nil || int64(len(t.text)) > room {
			continue
		}
		room -= int64(len(t.text))
		saved = append(saved, t)
	}
	s.forget(oldest)
	if w.current == oldest {
		w.current = nil
	}
	if err := errors.Join(oldest.f.Close(), s.dir.Remove(oldest.name())); err != nil {
		return 0, err
	}
	return room, w.store(saved)
}

func (s *Store) forget(oldest *file) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, p := range s.index {
		if p.file == oldest {
			delete(s.index, n)
		}
	}
	s.files = s.files[1:]
	s.bytes -= oldest.size
}
