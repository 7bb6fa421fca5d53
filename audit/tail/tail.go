package tail

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/admin"
)

// block is how many events are read at once on the way back through a log.
const block = 4096

// Entry is an event and its place.
type Entry struct {
	At         admin.Position
	Leaf       []byte // as it was stored
	Event      audit.Event
	Unreadable bool // it is no event that this version knows
}

// Read returns the entry of a leaf.
func Read(at admin.Position, leaf []byte) Entry {
	e, err := audit.Parse(leaf)
	return Entry{At: at, Leaf: leaf, Event: e, Unreadable: err != nil}
}

// Source is a log that is read.
type Source interface {
	// Epochs returns the epochs that are kept, oldest first.
	Epochs(ctx context.Context) ([]admin.Epoch, error)
	// Read gives f the events from a position on that there are now, at most count.
	Read(ctx context.Context, from admin.Position, count int64, f func(at admin.Position, leaf []byte) error) error
}

// Want says what to show.
type Want struct {
	Last   int // so many of those that match; 0: all
	Filter Filter
	Show   func(Entry) error
}

// Last shows the last events that match, oldest first, and returns where those
// begin that were not there yet.
func Last(ctx context.Context, s Source, w Want) (next admin.Position, err error) {
	epochs, err := s.Epochs(ctx)
	if err != nil || len(epochs) == 0 {
		return admin.Position{}, err
	}
	newest := epochs[len(epochs)-1]
	next = admin.Position{Epoch: newest.Number, Index: newest.Size}
	if w.Last == 0 {
		return next, all(ctx, s, w, epochs)
	}
	found, err := last(ctx, s, w, epochs)
	if err != nil {
		return next, err
	}
	for _, e := range found {
		if err := w.Show(e); err != nil {
			return next, err
		}
	}
	return next, nil
}

// all walks forward and keeps nothing.
func all(ctx context.Context, s Source, w Want, epochs []admin.Epoch) error {
	for _, e := range epochs {
		if older(e, w.Filter) {
			continue
		}
		err := s.Read(ctx, admin.Position{Epoch: e.Number}, e.Size, func(at admin.Position, leaf []byte) error {
			if entry := Read(at, leaf); w.Filter.Matches(entry) {
				return w.Show(entry)
			}
			return nil
		})
		if err != nil && !errors.Is(err, admin.ErrGone) {
			return err
		}
	}
	return nil
}

// last walks back, block by block, until it has enough.
func last(ctx context.Context, s Source, w Want, epochs []admin.Epoch) ([]Entry, error) {
	var found []Entry // newest block first
	for _, e := range slices.Backward(epochs) {
		if older(e, w.Filter) {
			break
		}
		for end := e.Size; end > 0 && len(found) < w.Last; {
			size := int64(block)
			if w.Filter.all() {
				size = int64(w.Last - len(found))
			}
			begin := max(end-size, 0)
			matching, passed, err := readBlock(ctx, s, w.Filter, span{e.Number, begin, end})
			if errors.Is(err, admin.ErrGone) {
				return found, nil // and with it all before
			}
			if err != nil {
				return nil, err
			}
			found = append(matching[max(len(matching)-(w.Last-len(found)), 0):], found...)
			if passed {
				return found, nil
			}
			end = begin
		}
	}
	return found, nil
}

// span is a part of an epoch.
type span struct{ epoch, begin, end int64 }

// readBlock returns what matches. passed is true if all of it is older than is
// wanted, and so all before it, unless the clock was put back.
func readBlock(ctx context.Context, s Source, f Filter, at span) (matching []Entry, passed bool, err error) {
	passed = !f.Since.IsZero()
	err = s.Read(ctx, admin.Position{Epoch: at.epoch, Index: at.begin}, at.end-at.begin, func(p admin.Position, leaf []byte) error {
		e := Read(p, leaf)
		if f.Matches(e) {
			matching = append(matching, e)
		}
		if e.Unreadable || !e.Event.Time.Before(f.Since) {
			passed = false
		}
		return nil
	})
	return matching, passed, err
}

func older(e admin.Epoch, f Filter) bool {
	return !f.Since.IsZero() && !e.To.IsZero() && e.Closed && e.To.Before(f.Since)
}

// Ring keeps the last entries that match, for a log that is read in one go.
type Ring struct {
	want    Want
	entries []Entry
	next    int
}

// NewRing returns an empty ring. With Want.Last 0 it keeps nothing and shows each
// entry at once.
func NewRing(w Want) *Ring { return &Ring{want: w} }

// Add takes the next event. The leaf may be used again after it.
func (r *Ring) Add(at admin.Position, leaf []byte) error {
	e := Read(at, bytes.Clone(leaf))
	switch {
	case !r.want.Filter.Matches(e):
		return nil
	case r.want.Last == 0:
		return r.want.Show(e)
	case len(r.entries) < r.want.Last:
		r.entries = append(r.entries, e)
		return nil
	}
	r.entries[r.next] = e
	r.next = (r.next + 1) % r.want.Last
	return nil
}

// Show shows what was kept, oldest first.
func (r *Ring) Show() error {
	for i := range r.entries {
		if err := r.want.Show(r.entries[(r.next+i)%len(r.entries)]); err != nil {
			return err
		}
	}
	return nil
}
