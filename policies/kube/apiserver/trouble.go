package apiserver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	storagev1 "k8s.io/api/storage/v1"

	"github.com/portcullis-csi/portcullis/policies/kube"
)

const (
	// askAfter is when somebody who wants to know whether the API server answers
	// has it asked: a node on which nobody mounts anything asks nothing.
	askAfter = time.Minute
	// askEvery keeps those who ask for readiness, as often as they like, from
	// asking the API server with it.
	askEvery = 5 * time.Second
	// forgetAfter is when an object that nobody read again is no news any more.
	forgetAfter = 5 * time.Minute
)

// troubles remembers what could not be read, until it was read.
type troubles struct {
	clock func() time.Time

	mu       sync.Mutex
	asked    time.Time          // when uncertain last said so
	answered time.Time          // when the API server last gave an answer; zero: never
	of       map[string]trouble // by object
}

type trouble struct {
	err         UnavailableError
	since, last time.Time
}

// note takes down how a request ended.
func (t *troubles) note(object string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.clock()
	failure, failed := errors.AsType[*UnavailableError](err)
	switch {
	case failed:
		known, again := t.of[object]
		if !again || known.err.Reason != failure.Reason {
			known.since = now
		}
		known.err, known.last = *failure, now
		if t.of == nil {
			t.of = map[string]trouble{}
		}
		t.of[object] = known
	case err == nil || errors.Is(err, kube.ErrNotFound):
		t.answered = now
		for name, known := range t.of {
			if name == object || known.err.Reason.general() {
				delete(t.of, name)
			}
		}
	}
}

// general reports whether a reason is one of the API server, and not of the
// object that was asked for.
func (r Reason) general() bool {
	switch r {
	case Forbidden, NotServed, InvalidAnswer:
		return false
	default:
		return true
	}
}

// uncertain reports whether only another request can tell, to one caller at a
// time and not too often: the others are told what is known.
func (t *troubles) uncertain() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.clock()
	if !passed(now, t.asked, askEvery) {
		return false
	}
	uncertain := passed(now, t.answered, askAfter)
	for _, known := range t.of {
		uncertain = uncertain || known.err.Reason.general()
	}
	if uncertain {
		t.asked = now
	}
	return uncertain
}

// passed reports whether now is so long after then, or the clock was set back.
func passed(now, then time.Time, d time.Duration) bool {
	age := now.Sub(then)
	return then.IsZero() || age < 0 || age >= d
}

// newest is the trouble that was met last.
func (t *troubles) newest() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var found trouble
	for _, known := range t.of {
		if known.last.After(found.last) && t.clock().Sub(known.last) < forgetAfter {
			found = known
		}
	}
	if found.last.IsZero() {
		return nil
	}
	return fmt.Errorf("since %s: %w", found.since.UTC().Format(time.RFC3339), &found.err)
}

// Trouble returns why facts cannot be read now, as an *UnavailableError with the
// time since when; nil where the last reads worked. It is for readiness: it asks
// the API server for one object where nothing was read for a minute, or the last
// read failed, once in five seconds and at most for as long as ctx lets it.
func (r *Reader) Trouble(ctx context.Context) error {
	if r.troubles.uncertain() {
		// Which notes how it went, unless ctx ended first.
		if _, err := read[*storagev1.CSIDriver](ctx, r, driverKind.of("", r.c.DriverName)); errors.Is(err, context.DeadlineExceeded) {
			r.troubles.note(string(driverKind), &UnavailableError{Object: string(driverKind), Reason: Timeout})
		}
	}
	return r.troubles.newest()
}
