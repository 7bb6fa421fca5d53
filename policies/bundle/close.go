package bundle

import (
	"context"
	"errors"
)

// errClosed is returned for an attempt after the end.
var errClosed = errors.New("policy source is closed")

// Close ends attempts, Run and the timer of what ends by itself. When it returns
// nothing of the Source uses the store, reports, or begins to: the store and whoever
// is reported to may be closed. The engine in force stays. It may be called again.
func (s *Source) Close() {
	s.closer.Do(func() { close(s.closed) })
	s.working.Lock()
	defer s.working.Unlock()
	k := s.keeper
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stop != nil {
		k.stop()
	}
}

// enter reports whether work may begin; who is let in unlocks working for reading.
func (s *Source) enter() bool {
	s.working.RLock()
	select {
	case <-s.closed:
		s.working.RUnlock()
		return false
	default:
		return true
	}
}

// untilClosed ends with ctx, and when the Source is closed: a registry that hangs
// must not hold up the end of a process.
func (s *Source) untilClosed(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-s.closed:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// settleByTimer is settle for a timer, which may fire while the Source is closed.
func (s *Source) settleByTimer() {
	if s.enter() {
		defer s.working.RUnlock()
		s.settle()
	}
}
