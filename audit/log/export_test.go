package log

import (
	"context"
	"io"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// VerifyReader is Verify of one epoch, on bytes that are in no file.
func VerifyReader(ctx context.Context, c VerifyConfig, r io.ReaderAt, size int64) (Report, error) {
	v, err := newVerification(ctx, c, []epochFile{{}})
	if err != nil {
		return Report{}, err
	}
	v.single = true
	if err := v.epoch(epochFile{}, r, size); err != nil {
		return Report{}, err
	}
	return v.finish()
}

// Thinning is how far apart checkpoints are kept.
const Thinning = thinning

// MaxTail is how many events never wait for a signature.
const MaxTail = maxTail

// AdoptOther adopts the log as if another state of it had been examined.
func (l *Log) AdoptOther() error {
	l.examined = l.active.file
	return l.adopt(fileState{})
}

// Guarded runs f as Open runs what may panic.
func Guarded(c Config, f func() error) error { return (&Log{c: c}).guarded(f) }

// OnStep calls f after each step of a roll-over.
func (l *Log) OnStep(f func(step string)) { l.step = f }

// RollOver ends the active epoch, whatever its size.
func (l *Log) RollOver() error {
	done := make(chan error, 1)
	l.commands <- func() { done <- l.rollOver(nil) }
	return <-done
}

// Closing reports whether Close was called.
func (l *Log) Closing() bool {
	select {
	case <-l.quit:
		return true
	default:
		return false
	}
}

// ReadClosed reads these bytes as a closed epoch: its ends, and every leaf.
func ReadClosed(dir string, text []byte, vkey string) (Epoch, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Epoch{}, err
	}
	defer root.Close()
	if err := root.WriteFile("fuzz.db", text, fileMode); err != nil {
		return Epoch{}, err
	}
	v, err := note.NewVerifier(strings.TrimSpace(vkey))
	if err != nil {
		return Epoch{}, err
	}
	c, err := openClosed(root, "fuzz.db", v)
	if err != nil {
		return Epoch{}, err
	}
	defer func() { _ = c.close() }()
	s, err := c.summarize([]note.Verifier{v})
	if err != nil {
		return Epoch{}, err
	}
	n := int64(0)
	for ; n < s.Size; n += 7 {
		if _, err := c.at(bucketEvents, n); err != nil {
			return Epoch{}, err
		}
	}
	return s.Epoch, c.from(bucketEvents, 0, func(int64, []byte) error { return nil })
}
