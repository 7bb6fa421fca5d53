package apiserver

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"k8s.io/klog/v2"
)

const (
	complainEvery = time.Minute
	maxCauseBytes = 256
)

// complaints writes each complaint once a minute: while the API server is down
// every publish of every pod has the same one.
type complaints struct {
	logger *slog.Logger
	clock  func() time.Time

	mu   sync.Mutex
	last map[UnavailableError]time.Time // as many as there are kinds, reasons and codes
}

// warn logs why the API server cannot be used; cause is absent where it would be
// the API server's text.
func (c *complaints) warn(ctx context.Context, e *UnavailableError, cause error) {
	if !c.due(*e) {
		return
	}
	text := ""
	if cause != nil {
		text = cause.Error()
		if len(text) > maxCauseBytes {
			text = text[:maxCauseBytes] + "..."
		}
		text = strconv.QuoteToASCII(text)
	}
	c.logger.WarnContext(ctx, "the API server gives no answer that can be used",
		slog.String(keyObject, e.Object), slog.String(keyReason, string(e.Reason)), slog.Int(keyCode, e.Code), slog.String(keyError, text))
}

func (c *complaints) due(e UnavailableError) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock()
	if last, ok := c.last[e]; ok && now.Sub(last) >= 0 && now.Sub(last) < complainEvery {
		return false
	}
	if c.last == nil {
		c.last = map[UnavailableError]time.Time{}
	}
	c.last[e] = now
	return true
}

// LogTo sends what the Kubernetes client library logs to this logger, in place
// of the standard error. It is a setting of the whole process: main calls it
// once, before anything else of this package. At the level of debug and above the
// library writes no objects; it may write what the API server says of an error.
func LogTo(logger *slog.Logger) { klog.SetSlogLogger(logger) }
