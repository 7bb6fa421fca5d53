package log

import (
	"bytes"
	"context"
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
	// Signed is how many of the events a checkpoint covers, be it in the file or
	// of VerifyConfig.Known. Only of these anything is proved.
	Signed int64
	// Tail is how many came after those: they are in the order of their hashes,
	// but whoever can write the file can have written them. A crash leaves a
	// short one, and a longer one is refused.
	Tail        int64
	OpenIntents []OpenIntent
	Incomplete  []Incomplete
}

// Verdict says in one line what is proved, and what is not.
func (r Report) Verdict() string {
	const proved = "none altered, removed or reordered"
	if r.Tail == 0 {
		return fmt.Sprintf("%d events of %s, %s", r.Events, r.Origin, proved)
	}
	return fmt.Sprintf("the first %d of %d events of %s, %s; WARNING: the last %d are not signed, so a crash came before their signature or somebody made them up",
		r.Signed, r.Events, r.Origin, proved, r.Tail)
}

// Incomplete is a long event of which parts are missing: a crash came between,
// or the log did not take them.
type Incomplete struct {
	Index    int64 // of the first part that is there
	ID       string
	Have, Of int // parts
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
		return Report{}, &DirectoryError{c.Path, "is not a regular file", "give the file of an epoch, " + EpochFile(1) + " for example, or a copy of it"}
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
	s := &story{c: c, ids: map[string]bool{}, open: map[string]int{}, parts: map[string]*Incomplete{}}
	x := &examination{ctx: ctx, verifier: verifier, each: s.event}
	s.total = func() int64 { return x.size }
	if err := x.run(r, size); err != nil {
		return Report{}, err
	}
	signed := x.last.size
	for _, text := range c.Known {
		size, err := x.known(text)
		if err != nil {
			return Report{}, err
		}
		signed = max(signed, size)
	}
	root, err := x.root()
	if err != nil {
		return Report{}, err
	}
	return Report{
		Origin: x.origin, Events: x.size, Checkpoints: x.checkpoints, Root: root,
		From: s.from, To: s.to, Signed: signed, Tail: x.size - signed, OpenIntents: s.intents(), Incomplete: s.incomplete(),
	}, nil
}

// known checks that the log still begins with what an earlier checkpoint signed.
func (x *examination) known(text []byte) (size int64, err error) {
	c, err := openCheckpoint(bytes.TrimLeft(text, "\n"), x.origin, x.verifier)
	if err != nil {
		return 0, fmt.Errorf("read known checkpoint: %w", err)
	}
	return c.size, x.covers(c)
}
