package audit

import (
	"context"
	"errors"
	"fmt"
)

var errTooMany = errors.New("too many appends are waiting for the disk")

// flight is an append under way. A disk may take longer than anybody waits for
// it, so a flight outlives its Record.
type flight struct {
	*entry
	done chan error // of the one who waits
	// Both below are guarded by the recorder's mutex.
	abandoned bool // nobody waits any more
	owed      bool // the event must be written whatever becomes of this flight
}

// launch starts the append of a recorded event.
func (r *Recorder) launch(ctx context.Context, n *entry) (*flight, error) {
	f := &flight{entry: n, done: make(chan error, 1)}
	r.mu.Lock()
	defer r.mu.Unlock()
	var err error
	switch {
	case r.closed:
		err = ErrClosed
	case len(r.flights) >= maxFlights, len(r.flights) > 0 && r.flying+n.size > r.c.QueueBytes:
		err = fmt.Errorf("%w: %w", ErrUnavailable, errTooMany)
	}
	if err != nil {
		r.forget(n)
		return nil, err
	}
	r.flights[n.event.ID] = f
	r.flying += n.size
	r.waiting.Add(1)
	go r.fly(ctx, f)
	return f, nil
}

func (r *Recorder) fly(ctx context.Context, f *flight) {
	defer r.waiting.Done()
	ctx, cancel := context.WithTimeout(ctx, r.c.Timeout)
	defer cancel()
	appendLeaf := r.laneOf(f.event).append
	written := 0
	var err error
	for _, leaf := range f.leaves {
		if _, err = appendLeaf(ctx, leaf); err != nil {
			err = fmt.Errorf("%w: %w", ErrUnavailable, err)
			break
		}
		written++
	}
	after := r.land(f, written, err)
	if err == nil {
		r.keep(f.entry)
	}
	f.done <- err
	for _, n := range after {
		r.owe(n)
	}
}

// land settles what follows from how a flight ended, and returns what is owed.
func (r *Recorder) land(f *flight, written int, err error) (after []*entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.flights, f.event.ID)
	r.flying -= f.size
	rest := f.leaves[written:]
	switch {
	case err == nil:
		r.repeats.note(f.entry, true)
		r.attempts.told(f.attempt, f.event)
		if !f.abandoned {
			r.attempts.begin(f.attempt, f.event)
		}
	case len(rest) > 0 && (f.owed || written > 0):
		f.leaves = rest
		after = append(after, f.entry)
	default:
		r.forget(f.entry)
	}
	if written > 0 && (err != nil || f.abandoned) {
		// Whoever gave up may still owe the event, which is in the log.
		r.landed[f.event.ID] = r.c.Clock()
		if f.event.Stage == StageIntent {
			after = append(after, r.abandoned(f.event)...)
		}
	}
	return after
}

// abandoned ends an intent that nobody acted on.
func (r *Recorder) abandoned(e Event) []*entry {
	end := r.finish(Ended(intentOf(e), false))
	leaves, err := r.leaves(end)
	if err != nil {
		return nil
	}
	return []*entry{newEntry(end, "", leaves)}
}

// giveUp stops waiting. If the flight has just landed, its result stands.
func (r *Recorder) giveUp(f *flight, cause error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case err := <-f.done:
		return err
	default:
	}
	if _, flying := r.flights[f.event.ID]; flying {
		f.abandoned = true
		return fmt.Errorf("%w: %w", ErrUnavailable, cause)
	}
	return <-f.done
}

// adopt reports whether an owed event is in the log or on its way there, since
// its Record came first.
func (r *Recorder) adopt(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f, ok := r.flights[id]; ok {
		f.owed = true
		return true
	}
	_, ok := r.landed[id]
	return ok
}
