package log

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// progressEvery is how many events pass between two calls of Progress.
const progressEvery = 1024

// openTooLong is how long a delivery may be without its end.
const openTooLong = 10 * time.Minute

// VerifyConfig says what to verify, and against what.
type VerifyConfig struct {
	Path string // of a copy, a snapshot, or the file of a stopped node
	VKey string // content of the node's node.vkey
	// Known are checkpoints of this log that were kept elsewhere. Without one, a
	// log that was put back to an earlier state of itself passes.
	Known    [][]byte
	Now      time.Time                     // absent: the time of the call
	Progress func(done, total int64)       // may be nil
	Each     func(i int64, l []byte) error // may be nil; sees every leaf, before the verdict
}

// Report is what a log that verifies holds.
type Report struct {
	Origin      string
	Events      int64
	Checkpoints int // that were kept, each checked
	Root        [32]byte
	From, To    time.Time // of the first and last event
	// Tail is how many events came after the last checkpoint: they are complete
	// and in order, but no signature covers them yet.
	Tail        int64
	OpenIntents []OpenIntent
}

// OpenIntent is a delivery without an end.
type OpenIntent struct {
	Index int64
	ID    string
	Age   time.Duration
	// Overdue is set after ten minutes: the node was stopped in between, or
	// somebody keeps the end from being written.
	Overdue bool
}

// Verify reads a log file that nobody writes to, and returns what it holds or a
// *TamperedError. It reads any bytes without a panic, and never writes.
func Verify(ctx context.Context, c VerifyConfig) (Report, error) {
	f, err := os.OpenFile(c.Path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO must not hang it
	if err != nil {
		return Report{}, fmt.Errorf("open audit log: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return Report{}, fmt.Errorf("look at audit log: %w", err)
	case !info.Mode().IsRegular():
		return Report{}, &DirectoryError{c.Path, "is not a regular file", "give the file " + FileName + " or a copy of it"}
	}
	if err := lock(f, syscall.LOCK_SH); err != nil {
		return Report{}, err
	}
	report, err := verify(ctx, c, f, info.Size())
	if t, ok := errors.AsType[*TamperedError](err); ok {
		t.File = c.Path
	}
	return report, err
}

func verify(ctx context.Context, c VerifyConfig, r io.ReaderAt, size int64) (Report, error) {
	verifier, err := note.NewVerifier(strings.TrimSpace(c.VKey))
	if err != nil {
		return Report{}, fmt.Errorf("read verifier key: %w; hint: give the content of %s", err, VKeyFileName)
	}
	if c.Now.IsZero() {
		c.Now = time.Now()
	}
	s := &story{c: c, ids: map[string]bool{}, open: map[string]int{}}
	x := &examination{ctx: ctx, verifier: verifier, each: s.event}
	s.total = func() int64 { return x.size }
	if err := x.run(r, size); err != nil {
		return Report{}, err
	}
	for _, text := range c.Known {
		if err := x.known(text); err != nil {
			return Report{}, err
		}
	}
	root, err := x.root()
	if err != nil {
		return Report{}, err
	}
	return Report{
		Origin: verifier.Name(), Events: x.size, Checkpoints: x.checkpoints, Root: root,
		From: s.from, To: s.to, Tail: x.size - x.last.size, OpenIntents: s.intents(),
	}, nil
}

// known checks that the log still begins with what an earlier checkpoint signed.
func (x *examination) known(text []byte) error {
	c, err := openCheckpoint(bytes.TrimLeft(text, "\n"), x.verifier)
	if err != nil {
		return fmt.Errorf("read known checkpoint: %w", err)
	}
	return x.covers(c)
}

// story follows the events for what their order alone tells.
type story struct {
	c        VerifyConfig
	total    func() int64
	from, to time.Time
	ids      map[string]bool
	open     map[string]int // place in started
	started  []started
}

type started struct {
	index int64
	id    string
	at    time.Time
}

// header is what Verify knows of an event.
type header struct {
	ID       string    `json:"id"`
	Time     time.Time `json:"time"`
	Stage    string    `json:"stage"`
	ParentID string    `json:"parentId"`
}

func (s *story) event(index int64, leaf []byte) error {
	if s.c.Progress != nil && index%progressEvery == 0 {
		s.c.Progress(index, s.total())
	}
	if s.c.Each != nil {
		if err := s.c.Each(index, leaf); err != nil {
			return err
		}
	}
	var h header
	if err := json.Unmarshal(leaf, &h); err != nil || !bytes.HasPrefix(leaf, []byte("{")) {
		return tampered(index, "is not a JSON object")
	}
	if h.ID != "" {
		if s.ids[h.ID] {
			return tampered(index, "has the id of an earlier event")
		}
		s.ids[h.ID] = true
	}
	if s.from.IsZero() {
		s.from = h.Time
	}
	s.to = h.Time
	switch h.Stage {
	case "intent":
		s.open[h.ID] = len(s.started)
		s.started = append(s.started, started{index, h.ID, h.Time})
	case "complete":
		delete(s.open, h.ParentID)
	}
	return nil
}

func (s *story) intents() []OpenIntent {
	var list []OpenIntent
	for i, e := range s.started {
		if at, ok := s.open[e.id]; !ok || at != i {
			continue
		}
		age := s.c.Now.Sub(e.at)
		list = append(list, OpenIntent{Index: e.index, ID: e.id, Age: age, Overdue: age > openTooLong})
	}
	return list
}
