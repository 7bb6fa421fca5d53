package driver

import (
	"context"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"go.opentelemetry.io/otel/metric"

	"github.com/portcullis-csi/portcullis/driver/identity"
	"github.com/portcullis-csi/portcullis/driver/provider"
)

// Locks opens targetLocks to tests.
type Locks struct{ *targetLocks }

func NewTargetLocks() Locks { return Locks{newTargetLocks()} }

func (l Locks) Acquire(ctx context.Context, podUID, volume string) (context.Context, func(), error) {
	return l.acquire(ctx, targetKey{podUID, volume})
}

func (l Locks) Preempt(ctx context.Context, podUID, volume string) (func(), error) {
	return l.preempt(ctx, targetKey{podUID, volume})
}

func (l Locks) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.held)
}

// Budget opens budget to tests.
type Budget struct{ *budget }

func NewBudget(limit, largest int64) Budget { return Budget{newBudget(limit, largest)} }

func (b Budget) Admit(podUID, namespace string) error {
	return b.admit(targetKey{podUID, "v"}, namespace)
}

func (b Budget) Reserve(podUID, namespace string, bytes int64) error {
	return b.reserve(targetKey{podUID, "v"}, namespace, bytes)
}

func (b Budget) Settle(podUID, namespace string, bytes int64) {
	b.settle(targetKey{podUID, "v"}, namespace, bytes)
}

func (b Budget) Own(podUID, namespace string) { b.own(targetKey{podUID, "v"}, namespace) }
func (b Budget) Release(podUID string)        { b.release(targetKey{podUID, "v"}) }
func (b Budget) InUse() int64                 { return b.inUse() }

// ErrPreempted is errPreempted.
var ErrPreempted = errPreempted

// Line opens line to tests.
var Line = line

// Record and ObjectVersion open record and objectVersion to tests.
type (
	Record        = record
	ObjectVersion = objectVersion
)

func (r *Records) Put(rec Record)                           { r.put(rec) }
func (r *Records) Get(podUID, volume string) (Record, bool) { return r.get(targetKey{podUID, volume}) }
func (r *Records) Remove(podUID, volume string)             { r.remove(targetKey{podUID, volume}) }

// Refreshing returns how many refreshes have not ended.
func (d *Driver) Refreshing() int64 { return d.refreshing.count() }

// Denial opens denial to tests, and Brake what the brake makes of many.
type Denial = denial

func Brake(now time.Time, all ...Denial) (live, denied int, holds bool) {
	var s survey
	for _, n := range all {
		s.add(n, now)
	}
	return s.live, s.denied, s.holds()
}

// NewMetrics makes every instrument of the driver.
func NewMetrics(t testing.TB, m metric.Meter) {
	t.Helper()
	NewProviderMetrics(t, m, nil)
}

// NewProviderMetrics makes every instrument, those of providers with this
// source.
func NewProviderMetrics(t testing.TB, m metric.Meter, providers func() map[string]provider.Status) {
	t.Helper()
	none := func() int64 { return 0 }
	if _, err := newMetrics(m, gauges{none, none, none, none, none, none, none, providers}); err != nil {
		t.Fatal(err)
	}
}

// Dir is where volumes.db is.
func (r *Records) Dir() string { return r.dir.Name() }

// Flush writes volumes.db now.
func (r *Records) Flush() { r.flush() }

// CountForTest makes a metric with this label.
func (d *Driver) CountForTest(label string) { d.metrics.published(context.Background(), label, "") }

// Parsed is what parsePublish makes of a request.
type Parsed struct {
	PodUID, Volume, Class string
	Claim                 identity.Claim
	Group                 *int64
}

// ParsePublish does with a request what NodePublishVolume does before it looks
// at anything else. The error is the reply.
func ParsePublish(kubeletRoot string, req *csi.NodePublishVolumeRequest) (Parsed, error) {
	d := &Driver{c: Config{KubeletRoot: kubeletRoot}}
	t, err := d.parseTarget(fieldTarget, req.GetTargetPath())
	if err != nil {
		return Parsed{}, statusOf(err)
	}
	m, err := parsePublish(req, t)
	defer m.wipe()
	if err != nil {
		return Parsed{}, statusOf(err)
	}
	return Parsed{PodUID: t.key.podUID, Volume: t.key.volume, Class: m.class, Claim: m.claim, Group: m.group}, nil
}

// Len returns how many volumes are remembered.
func (r *Records) Len() int { return len(r.keys()) }

// LocksHeld returns how many targets are locked or waited for.
func (d *Driver) LocksHeld() int { return Locks{d.locks}.Len() }

// HoldTarget locks a target as a publish does, and keeps it.
func (d *Driver) HoldTarget(ctx context.Context, podUID, volume string) (release func(), err error) {
	_, release, err = d.locks.acquire(ctx, targetKey{podUID, volume})
	return release, err
}

// HoldBudget counts a volume that is not there.
func (d *Driver) HoldBudget(podUID, volume, namespace string, bytes int64) (release func()) {
	k := targetKey{podUID, volume}
	d.budget.settle(k, namespace, bytes)
	return func() { d.budget.release(k) }
}

// Remembered returns of how many volumes the last request is known.
func (d *Driver) Remembered() int {
	d.requests.mu.Lock()
	defer d.requests.mu.Unlock()
	return len(d.requests.last)
}

// Try opens try to tests.
func (l Locks) Try(ctx context.Context, podUID, volume string) (held context.Context, release func(), free bool) {
	return l.try(ctx, targetKey{podUID, volume})
}

// Pending opens pending to tests, with volumes that are named by their pod.
type Pending struct{ *pending }

func NewPending() Pending { return Pending{newPending()} }

func (p Pending) Add(podUID, why string, at time.Time) {
	p.add(task{key: targetKey{podUID: podUID}, cause: cause(why), at: at})
}

func (p Pending) Take(now time.Time) (string, bool) {
	t, ok := p.take(now)
	return t.key.podUID + " " + string(t.cause), ok
}

func (p Pending) Wait(now time.Time) time.Duration { return p.wait(now) }
func (p Pending) Cancel()                          { p.cancel() }
func (p Pending) Forget(podUID string)             { p.forget(targetKey{podUID: podUID}) }

// LookAtDue has the driver look at once for tasks whose time has come: its timer knows
// nothing of a clock that a test moves.
func (d *Driver) LookAtDue() { nudge(d.pending.wake) }

// Due returns how many tasks wait whose time has come, by the driver's clock.
func (d *Driver) Due() (count int) {
	d.pending.mu.Lock()
	defer d.pending.mu.Unlock()
	now := d.c.Clock()
	for _, t := range d.pending.tasks {
		if !now.Before(t.at) {
			count++
		}
	}
	return count
}
