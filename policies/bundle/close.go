package bundle

import (
	"context"
	"errors"
	"sync"
)

// errClosed is returned for an attempt after the end.
var errClosed = errors.New("policy source is closed")

// life is whether a Source is closed, and what to end then.
type life struct {
	closed chan struct{}
	// working is held for reading by whoever uses the store or reports.
	working sync.RWMutex

	mu      sync.Mutex
	over    bool
	running map[*context.CancelFunc]struct{} // the attempts
}

// Close ends attempts, Run and the timer of what ends by itself. When it returns
// nothing of the Source uses the store, reports, or begins to: the store and whoever
// is reported to may be closed. The engine in force stays. It may be called again.
func (s *Source) Close() {
	s.life.finish()
	s.life.working.Lock()
	defer s.life.working.Unlock()
	k := s.keeper
	if k == nil {
		return
	}
	k.withdraw()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stop != nil {
		k.stop()
	}
}

func (l *life) finish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return
	}
	l.over = true
	close(l.closed)
	for cancel := range l.running {
		(*cancel)()
	}
}

// enter reports whether work may begin; who is let in unlocks working for reading.
func (l *life) enter() bool {
	l.working.RLock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		l.working.RUnlock()
	}
	return !l.over
}

// limit ends ctx when the Source is closed: a registry that hangs must not hold up
// the end of a process.
func (l *life) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		cancel()
	}
	l.running[&cancel] = struct{}{}
	return ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.running, &cancel)
		cancel()
	}
}

// settleByTimer is settle for a timer, which may fire while the Source is closed.
func (s *Source) settleByTimer() {
	if s.life.enter() {
		defer s.life.working.RUnlock()
		s.settle()
	}
}
