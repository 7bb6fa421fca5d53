package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"time"
)

const (
	defaultTimeout    = 2 * time.Second
	defaultQueueLimit = 4096
	defaultQueueBytes = 16 << 20
	// maxFlights bounds what a disk that hangs may hold up.
	maxFlights = 1024
	// sweepEvery is how often closed windows are counted out.
	sweepEvery = time.Minute
)

// Appender is a log. Package audit/log has the real one.
type Appender interface {
	// Append returns once the leaf is durable. An error means that it is not
	// in the log and will not be.
	Append(ctx context.Context, leaf []byte) (index int64, err error)
	// AppendReserved does the same and may use the room that is kept for what
	// must never wait: unmounts, ends of deliveries, alarms.
	AppendReserved(ctx context.Context, leaf []byte) (index int64, err error)
	// Healthy returns why an Append would not work now.
	Healthy() error
}

// Config of a Recorder.
type Config struct {
	Log        Appender
	Source     Source
	Logger     *slog.Logger
	Clock      func() time.Time // absent: time.Now
	Timeout    time.Duration    // how long Record waits; absent: 2 s
	QueueLimit int              // owed events held in memory, for each of two queues; absent: 4096
	// QueueBytes is how much memory each queue may take, and so may what waits
	// for the disk; absent: 16 MiB. One event may be larger than that.
	QueueBytes int64
	// Inputs keeps what decisions were made from; absent: nobody does.
	Inputs Inputs
}

// Recorder completes events, checks them and appends them to the log.
type Recorder struct {
	c        Config
	ordinary *lane // may be refused by a log that is nearly full
	reserved *lane // has room there: ends, unmounts, alarms

	mu       sync.Mutex
	closed   bool
	flights  map[string]*flight
	flying   int64                // bytes of the flights
	landed   map[string]time.Time // written after Record had given up
	repeats  *repeats
	shares   *shares
	tallies  *tallies
	attempts *attempts

	waiting sync.WaitGroup // flights
	stop    chan struct{}
	swept   chan struct{}
}

// New returns a Recorder, or an error that names the field that is missing or
// wrong.
func New(c Config) (*Recorder, error) {
	switch {
	case c.Log == nil:
		return nil, errors.New("configure audit recorder: Log is missing")
	case c.Logger == nil:
		return nil, errors.New("configure audit recorder: Logger is missing")
	}
	if err := checkStrings(reflect.ValueOf(c.Source), "source"); err != nil {
		return nil, fmt.Errorf("configure audit recorder: %w", err)
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	if c.QueueLimit <= 0 {
		c.QueueLimit = defaultQueueLimit
	}
	if c.QueueBytes <= 0 {
		c.QueueBytes = defaultQueueBytes
	}
	r := &Recorder{
		c: c, flights: map[string]*flight{}, landed: map[string]time.Time{}, repeats: newRepeats(),
		shares: newShares(), tallies: newTallies(), attempts: newAttempts(),
		stop: make(chan struct{}), swept: make(chan struct{}),
	}
	r.ordinary, r.reserved = newLane(r, c.Log.Append), newLane(r, c.Log.AppendReserved)
	go r.sweepUntilStopped()
	return r, nil
}

// Record returns nil once the event is durable, or once it is counted: as a
// repeat of one that is, or, of refusals alone, beyond the share of its
// namespace. Any error is ErrUnavailable, ErrClosed or, if the
// event is malformed, an *InvalidError; then nothing may be granted. An intent
// that becomes durable after Record gave up is ended as Abandoned.
func (r *Recorder) Record(ctx context.Context, e Event) error {
	n, err := r.admit(e)
	if err != nil || n == nil {
		return err
	}
	return r.await(ctx, n)
}

// await appends an entry and waits until it is durable.
func (r *Recorder) await(ctx context.Context, n *entry) error {
	f, err := r.launch(ctx, n)
	if err != nil {
		return err
	}
	timeout := time.NewTimer(r.c.Timeout)
	defer timeout.Stop()
	select {
	case err = <-f.done:
		return err
	case <-ctx.Done():
		return r.giveUp(f, ctx.Err())
	case <-timeout.C:
		return r.giveUp(f, context.DeadlineExceeded)
	}
}

// Owe takes an event that is appended as soon as that works, and returns at
// once. When too many are owed already, the event is counted in the audit.gap
// event that comes next.
func (r *Recorder) Owe(e Event) {
	if r.adopt(e.ID) || r.ends(e) {
		return
	}
	n, err := r.admit(e)
	switch {
	case errors.Is(err, ErrClosed):
		r.c.Logger.Error("audit event came after the end", slog.String(keyType, string(e.Type)), slog.String(keyID, e.ID))
	case err != nil:
		r.c.Logger.Error("audit event is malformed and was not written", slog.String(keyType, string(e.Type)), slog.Any(keyError, err))
		r.laneOf(e).miss(r.finish(e).Time, ReasonInvalidEvent, 1)
	case n != nil:
		r.owe(n)
	}
}

// owe hands the entry to its lane.
func (r *Recorder) owe(n *entry) { r.oweTo(r.laneOf(n.event), n) }

func (r *Recorder) oweTo(l *lane, n *entry) {
	if l.push(n) {
		r.note(n, false)
		r.keep(n)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(n)
}

// Healthy returns nil if an event could be appended now.
func (r *Recorder) Healthy() error {
	r.mu.Lock()
	closed := r.closed
	r.mu.Unlock()
	if closed {
		return ErrClosed
	}
	for _, err := range []error{r.c.Log.Healthy(), r.reserved.failure(), r.ordinary.failure()} {
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	return nil
}

// Close appends what is owed, until ctx ends. The log stays open.
func (r *Recorder) Close(ctx context.Context) error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	r.mu.Unlock()
	close(r.stop)
	<-r.swept
	r.awaitFlights(ctx)
	r.tellCounts(true)
	left := r.ordinary.close(ctx) + r.reserved.close(ctx)
	if left > 0 {
		return fmt.Errorf("%w: %d owed events were not written", ErrUnavailable, left)
	}
	return nil
}

func (r *Recorder) awaitFlights(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		r.waiting.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// admit completes, checks and encodes the event, or counts it as a repeat and
// returns nil.
func (r *Recorder) admit(e Event) (*entry, error) {
	key, attempt := repeatKey(e), attemptKey(e)
	e, absorbed, err := r.complete(e, key, attempt)
	if err != nil || absorbed {
		return nil, err
	}
	leaves, err := r.leaves(e)
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.repeats.drop(key, e.ID)
		r.attempts.drop(attempt, e.ID)
		return nil, err
	}
	n := newEntry(e, key, leaves)
	n.attempt = attempt
	if r.onlyCounted(n) {
		return nil, nil
	}
	r.attach(n, e.input)
	return n, nil
}

func (r *Recorder) complete(e Event, key, attempt string) (_ Event, absorbed bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return e, false, ErrClosed
	}
	e = r.finish(e)
	e.ParentID = r.repeats.original(e.ParentID)
	absorbed = r.repeats.absorb(key, &e) || r.attempts.hold(attempt, &e)
	if absorbed {
		r.refresh(e)
	}
	return e, absorbed, nil
}

func (r *Recorder) finish(e Event) Event {
	e.Schema, e.Source, e.Code = SchemaID, r.c.Source, codeOf(e.Type, e.Outcome)
	if e.Time.IsZero() {
		e.Time = r.c.Clock()
	}
	e.Time = e.Time.UTC()
	return e
}

// leaves returns the bytes of the event or of its parts, all of them checked.
func (r *Recorder) leaves(e Event) ([][]byte, error) {
	parts, err := split(e)
	if err != nil {
		return nil, err
	}
	leaves := make([][]byte, len(parts))
	for i, p := range parts {
		if err := p.Validate(); err != nil {
			return nil, err
		}
		if leaves[i], err = encode(p); err != nil {
			return nil, err
		}
		if len(leaves[i]) > MaxEventBytes {
			return nil, &InvalidError{Field: "(all)", Rule: "at most 32 KiB"}
		}
	}
	return leaves, nil
}

// laneOf gives the reserve to what must never wait. Nothing that grants is
// among it.
func (r *Recorder) laneOf(e Event) *lane {
	switch e.Type {
	case TypeUnmount, TypeIntegrityFailure, TypeForeignMount, TypeLogVerifyFailed, TypeAuditGap,
		TypeRevoke, TypeMassRevocation, TypeDriverStart, TypeDriverStop, TypeLogOpened:
		return r.reserved
	default:
		if e.Stage == StageComplete {
			return r.reserved
		}
		return r.ordinary
	}
}

// note opens the window in which equal events are counted.
func (r *Recorder) note(n *entry, durable bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.repeats.note(n, durable)
	if durable {
		r.attempts.told(n.attempt, n.event)
	}
}

func (r *Recorder) sweepUntilStopped() {
	defer close(r.swept)
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-tick.C:
			r.sweep()
		}
	}
}

func (r *Recorder) sweep() {
	now := r.c.Clock()
	r.mu.Lock()
	for id, at := range r.landed {
		if now.Sub(at) > sweepEvery {
			delete(r.landed, id)
		}
	}
	r.mu.Unlock()
	r.tellCounts(false)
}
