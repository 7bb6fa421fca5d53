package apiserver

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/portcullis-csi/portcullis/policies/kube"
)

// objectKey names an object of a kind.
type objectKey struct{ namespace, name string }

// copied is an object that can be given to several callers.
type copied[T any] interface{ DeepCopy() T }

// shared lets callers who ask for the same object at the same time share one
// request, and gives its answer to others for a short while. Errors are given
// only to those who waited.
type shared[T copied[T]] struct {
	clock  func() time.Time
	logger *slog.Logger

	mu      sync.Mutex
	flights map[objectKey]*flight[T]
}

// flight is one request, under way or answered.
type flight[T any] struct {
	began time.Time // the answer is not older than this
	done  chan struct{}
	value T // set once done
	err   error
}

func newShared[T copied[T]](c Config) *shared[T] {
	return &shared[T]{clock: c.Clock, logger: c.Logger, flights: map[objectKey]*flight[T]{}}
}

// get returns the caller's own copy. A caller that gives up leaves the request
// to the others.
func (s *shared[T]) get(ctx context.Context, k objectKey, fetch func(context.Context) (T, error)) (T, error) {
	var none T
	for again := true; ; again = false {
		f, joined := s.join(ctx, k, fetch)
		select {
		case <-f.done:
		case <-ctx.Done():
			return none, ctx.Err()
		}
		// The object may have been created after a request that was already under
		// way had been answered. One that begins now has seen it.
		if joined && again && errors.Is(f.err, kube.ErrNotFound) {
			continue
		}
		if f.err != nil {
			return none, f.err
		}
		return f.value.DeepCopy(), nil
	}
}

// join returns the request to wait for, and whether somebody else began it.
func (s *shared[T]) join(ctx context.Context, k objectKey, fetch func(context.Context) (T, error)) (*flight[T], bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	if f, ok := s.flights[k]; ok && !f.expired(now) {
		return f, true
	}
	for other, f := range s.flights {
		if f.expired(now) {
			delete(s.flights, other)
		}
	}
	f := &flight[T]{began: now, done: make(chan struct{})}
	s.flights[k] = f
	go s.fly(context.WithoutCancel(ctx), k, f, fetch) // which fetch ends by its own timeout
	return f, false
}

func (s *shared[T]) fly(ctx context.Context, k objectKey, f *flight[T], fetch func(context.Context) (T, error)) {
	// Whatever happens, whoever waits gets an answer that grants nothing.
	f.err = &UnavailableError{Object: "object", Reason: InvalidAnswer}
	defer func() {
		if p := recover(); p != nil {
			s.logger.ErrorContext(ctx, "reading an object panicked", slog.String(keyError, string(debug.Stack())))
		}
		if f.err != nil {
			s.forget(k, f)
		}
		close(f.done)
	}()
	f.value, f.err = fetch(ctx)
}

func (s *shared[T]) forget(k objectKey, f *flight[T]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flights[k] == f {
		delete(s.flights, k)
	}
}

// expired reports whether nobody may join any more: the answer of a request that
// takes long is as old as its beginning.
func (f *flight[T]) expired(now time.Time) bool {
	age := now.Sub(f.began)
	return age < 0 || age >= shareFor
}
