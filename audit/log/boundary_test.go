package log_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// boundaries makes leaves as far as this package knows events.
func boundaries(now func() time.Time) func(kind string, state []byte) ([]byte, error) {
	var n atomic.Int64
	return func(kind string, state []byte) ([]byte, error) {
		at := now().UTC().Format(time.RFC3339Nano)
		return fmt.Appendf(nil, `{"id":"%s-%d-%s","time":%q,"type":%q,"log":%s}`, kind, n.Add(1), at, at, kind, state), nil
	}
}

// isBoundary reports whether a leaf is one that the log wrote itself.
func isBoundary(leaf string) bool {
	return strings.Contains(leaf, `"type":"log.`) || strings.Contains(leaf, `"type":"key.rotated"`)
}

// leafTime is when the events of leaf happen.
func leafTime() time.Time { return time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC) }
