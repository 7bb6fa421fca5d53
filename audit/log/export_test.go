package log

import (
	"context"
	"io"
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
func (l *Log) AdoptOther() error { return l.adopt(fileState{}) }

// Guarded runs f as Open runs what may panic.
func Guarded(c Config, f func() error) error { return (&Log{c: c}).guarded(f) }
