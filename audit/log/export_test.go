package log

import (
	"context"
	"io"
)

// VerifyReader is Verify on bytes that are in no file.
func VerifyReader(ctx context.Context, c VerifyConfig, r io.ReaderAt, size int64) (Report, error) {
	return verify(ctx, c, r, size)
}

// Thinning is how far apart checkpoints are kept.
const Thinning = thinning
