package audit

import (
	"context"
	"errors"
	"fmt"
)

var errTooMany = errors.New("too many appends are waiting for the disk")

// flight is an event on its way into the log. A disk may take longer than
// anybody waits for it, so a flight outlives its Record.
type flight struct {
	event  Event
	leaves [][]byte
	done   chan error // of the one who waits
	// Both below are guarded by the recorder's mutex.
	abandoned bool // nobody waits any more
	owed      bool // the event must be written whatever becomes of this flight
}

// launch starts the append of a recorded event.
func (r *Recorder) launch(ctx context.Context, e Event, leaves [][]byte) (*flight, error) {
	f := &flight{event: e, leaves: leaves, done: make(chan error, 1)}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return nil, ErrClosed
	case len(r.flights) >= maxFlights:
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, errTooMany)
	}
	r.flights[e.ID] = f
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
	f.done <- err
	for _, e := range after {
		e.push(r)
	}
}

// consequence is an entry that a landing makes due.
type consequence struct{ entry *entry }

func (c consequence) push(r *Recorder) { r.laneOf(c.entry.event).push(c.entry) }

// land settles what follows from how a flight ended.
func (r *Recorder) land(f *flight, written int, err error) (after []consequence) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.flights, f.event.ID)
	if err == nil {
		r.repeats.note(f.event, true)
	}
	if rest := f.leaves[written:]; len(rest) > 0 && (f.owed || written > 0) {
		after = append(after, consequence{&entry{event: f.event, leaves: rest}})
	}
	if written == 0 {
		return after
	}
	if err != nil || f.abandoned {
		// Whoever gave up may still owe the event, which is in the log.
		r.landed[f.event.ID] = r.c.Clock()
		if f.event.Stage == StageIntent {
			after = append(after, r.abandoned(f.event)...)
		}
	}
	return after
}

// abandoned ends an intent that nobody acted on.
func (r *Recorder) abandoned(e Event) []consequence {
	end := r.finish(Ended(intentOf(e), false))
	leaves, err := r.leaves(end)
	if err != nil {
		return nil
	}
	return []consequence{{&entry{event: end, leaves: leaves}}}
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
