package provider

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"
)

// checkTimeout bounds one health check: upstream's.
const checkTimeout = 5 * time.Second

// MaxWatched bounds the providers that a Watch looks at: whoever can make files
// in a provider directory chooses their names.
const MaxWatched = 32

// Status is what the last check of a provider found.
type Status struct {
	Up      bool
	Success time.Time // of the last check that found it up; zero if none did
}

// Watch checks all providers of a Deliverer from time to time. It is safe for
// concurrent use.
type Watch struct {
	deliverer *Deliverer

	mu       sync.Mutex
	statuses map[string]Status
}

// NewWatch returns a Watch that has not checked anything.
func NewWatch(d *Deliverer) *Watch { return &Watch{deliverer: d} }

// Statuses returns the status of every provider that had a socket file at the
// last check, of the first MaxWatched by name. It is empty before the first.
func (w *Watch) Statuses() map[string]Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.statuses)
}

// Run checks now and at every interval, until ctx ends.
func (w *Watch) Run(ctx context.Context, interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		w.Check(ctx)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// Check checks all providers at the same time, so that one that hangs holds up
// no other, and logs those that are not up.
func (w *Watch) Check(ctx context.Context) {
	names := w.deliverer.Providers()
	if len(names) > MaxWatched {
		w.deliverer.config.Logger.WarnContext(ctx, "more provider sockets than are watched", slog.Int(keyCount, len(names)))
		names = names[:MaxWatched]
	}
	before := w.Statuses()
	found := make([]Status, len(names))
	var checks sync.WaitGroup
	for i, name := range names {
		checks.Go(func() { found[i] = w.check(ctx, name, before[name]) })
	}
	checks.Wait()
	if ctx.Err() != nil {
		return // what ended meanwhile says nothing of the providers
	}
	statuses := make(map[string]Status, len(names))
	for i, name := range names {
		statuses[name] = found[i]
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.statuses = statuses
}

func (w *Watch) check(ctx context.Context, name string, before Status) Status {
	short, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	// What it says of itself is its own text, and stays where it is.
	_, err := w.deliverer.Check(short, name)
	if err == nil {
		return Status{Up: true, Success: time.Now()}
	}
	if ctx.Err() == nil {
		args := []any{slog.String(keyProvider, name), slog.Any(keyError, err)}
		if e, ok := errors.AsType[*Error](err); ok {
			args = append(args, slog.String(keyHint, e.Hint()))
		}
		w.deliverer.config.Logger.WarnContext(ctx, "provider is not up", args...)
	}
	return Status{Success: before.Success}
}
