package driver

import (
	"slices"
	"sync"
	"time"

	"github.com/portcullis-csi/portcullis/audit"
)

// The brake: when more than brakePercent of a node's live volumes, and more
// than brakeVolumes, would be revoked within brakeWindow, it holds after
// brakeVolumes of them.
const (
	brakeWindow  = 10 * time.Minute
	brakeVolumes = 5
	brakePercent = 20
	// surveyTime is enough for kubelet to come by each volume once.
	surveyTime = republishPeriod
)

// brake keeps one mistake, in a bundle, in the labels of a namespace or in a
// clock, from taking every secret of a node away. What it goes by is in the
// records, so that a restart does not release it. Its own memory are the time of
// its last alarm and the volumes that were unmounted after they were emptied:
// pods that die of their revocation must not make room for the next.
type brake struct {
	mu      sync.Mutex // held from the count until the count has changed
	alarmed time.Time
	bundle  string      // digest of the last one that volumes were asked about
	asking  time.Time   // since when
	gone    []time.Time // when volumes were revoked that are not mounted any more
}

// bury remembers a revoked volume that is unmounted.
func (b *brake) bury(n denial, now time.Time) {
	if n.RevokedAt.IsZero() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gone = append(b.gone, n.RevokedAt)
	b.buried(now)
}

// buried counts those of the window, and forgets the others. The caller holds
// the lock.
func (b *brake) buried(now time.Time) int {
	b.gone = slices.DeleteFunc(b.gone, func(t time.Time) bool { return lapsed(now, t, brakeWindow) })
	return len(b.gone)
}

// begin notes that another bundle is in force.
func (b *brake) begin(bundle string, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bundle != bundle {
		b.bundle, b.asking = bundle, now
	}
}

// survey counts the volumes of a node for the brake.
type survey struct {
	live    int // that have content, or had when the window began
	denied  int // of them: that policy speaks against, or that were emptied within the window
	revoked int // of those: emptied within the window
	held    int
	first   time.Time // of the denials
}

func (s *survey) add(n denial, now time.Time) {
	revoked := !lapsed(now, n.RevokedAt, brakeWindow)
	if n.Empty && !revoked {
		return
	}
	s.live++
	denied := !lapsed(now, n.Last, denialLife)
	if !denied && !revoked {
		return
	}
	s.denied++
	if denied && (s.first.IsZero() || n.First.Before(s.first)) {
		s.first = n.First
	}
	switch {
	case revoked:
		s.revoked++
	case n.Held:
		s.held++
	}
}

// tooMany reports whether so many volumes are denied that a mistake is likelier
// than intent.
func (s survey) tooMany() bool {
	return s.denied > brakeVolumes && s.denied*100 > s.live*brakePercent
}

// holds reports whether the next volume must keep its content. Once one was
// held, none goes until they are fewer: the window that slides on must not let
// five more through every ten minutes.
func (s survey) holds() bool {
	return s.tooMany() && (s.revoked >= brakeVolumes || s.held > 0)
}

// braking is how the brake is to take a revocation.
type braking struct {
	released bool // the bundle that denies wants none
	surveyed bool // all volumes are asked about before the sixth goes
}

// revocable decides whether the volume of a record may be emptied now, and
// remembers the answer, so that of two at once the second counts the first.
func (d *Driver) revocable(rec record, b braking) (record, bool) {
	d.brake.mu.Lock()
	defer d.brake.mu.Unlock()
	now := d.c.Clock()
	if rec.Denial.Emptying {
		return rec, true // what did not succeed is tried again
	}
	d.c.Records.put(rec)
	s, gone := d.c.Records.survey(now), d.brake.buried(now)
	s.live, s.denied, s.revoked = s.live+gone, s.denied+gone, s.revoked+gone
	if !b.released && s.holds() {
		rec.Denial.Held = true
		d.c.Records.put(rec)
		d.alarm(s, now)
		return rec, false
	}
	if !b.released && b.surveyed && s.revoked >= brakeVolumes {
		if open := d.unasked(rec.Denial, now); len(open) > 0 {
			d.ask(slices.DeleteFunc(open, d.isAsked), causeBrake, now)
			return rec, false
		}
	}
	rec.Denial.Held, rec.Denial.Emptying = false, true
	rec.Denial.RevokedAt, rec.Denial.RevokedBy = now, rec.Denial.DecisionID
	d.c.Records.put(rec)
	return rec, true
}

// unasked returns the volumes that were not decided on since a denial, or since the
// bundle that it is by came into force: how many of the node are denied is not known
// without them. Where denials come one by one, after a restart or a change of labels,
// those that are first must not all be gone before their number tells of a mistake.
// Somebody may keep a volume from being decided on for as long as they like, so this
// has an end. The caller holds the brake's lock.
func (d *Driver) unasked(n denial, now time.Time) (keys []targetKey) {
	if lapsed(now, n.First, surveyTime) {
		return nil
	}
	since := n.First
	if began := d.brake.asking; began.Before(since) && since.Sub(began) < surveyTime {
		since = began
	}
	for _, k := range d.c.Records.keys() {
		if rec, known := d.c.Records.get(k); known && !rec.Denial.Empty && rec.DecidedAt.Before(since) {
			keys = append(keys, k)
		}
	}
	return keys
}

// isAsked reports whether a volume is about to be decided on, by us or by kubelet.
func (d *Driver) isAsked(k targetKey) bool {
	rec, known := d.c.Records.get(k)
	return !known || rec.Redecide || d.pending.waits(k)
}

// alarm tells that the brake holds, again in every window while it does.
func (d *Driver) alarm(s survey, now time.Time) {
	if !lapsed(now, d.brake.alarmed, brakeWindow) {
		return
	}
	d.brake.alarmed = now
	first := s.first
	if first.IsZero() || first.After(now) {
		first = now
	}
	d.c.Recorder.Owe(audit.MassRevocation(s.denied, first, now))
	d.c.Logger.Error("revocation has stopped: too many mounted volumes are denied at once; if that is meant, publish a bundle with mass_revoke: true",
		keyDenied, s.denied, keyRevoked, s.revoked, keyLive, s.live)
}

// held counts the volumes that the brake holds back, for the metric.
func (d *Driver) held() int64 { return int64(d.c.Records.survey(d.c.Clock()).held) }
