package driver_test

import (
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/driver"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// Pods that die of their revocation take their records with them.
func TestBrakeRemembersUnpublishedVolumes(t *testing.T) {
	n := newNode(t)
	fleet := n.mountMany(12)
	n.revokeFive(fleet)
	for _, p := range fleet[:5] {
		n.mustUnpublish(p)
	}
	if got := n.round(fleet[5:], confirmAfter); got != 0 {
		t.Errorf("revoked %d more of 12 volumes within a minute, want 0: five went already", got)
	}
}

// Lost with volumes.db, or killed before it was written.
func TestBrakeSeesEmptyVolumesWithoutRecords(t *testing.T) {
	n := newNode(t)
	fleet := n.mountMany(12)
	n.revokeFive(fleet)
	for _, p := range fleet {
		n.records.Remove(p.uid, volume)
	}
	n.must(n.driver.Recover(nil))
	for range 4 {
		n.round(fleet[5:], time.Minute)
	}
	if got := n.emptied(fleet); got != 5 {
		t.Errorf("empty volumes = %d of 12, want the 5 from before the restart", got)
	}
}

func TestBrakeLetsGoOfWhatIsAllowedAgain(t *testing.T) {
	n := newNode(t, func(s *setup) { s.rotation = driver.Rotation{} })
	fleet := n.mountMany(8)
	n.deny()
	n.round(fleet, 6*time.Minute)
	n.round(fleet, confirmAfter)
	n.allow()
	n.round(fleet, confirmAfter)
	for _, p := range fleet {
		if rec, _ := n.records.Get(p.uid, volume); rec.Denial.Held {
			t.Errorf("%s is allowed, and held back", p.name)
		}
	}
	n.round(fleet, 5*time.Hour)
	n.deny()
	n.round(fleet, 6*time.Minute)
	if got := n.round(fleet, confirmAfter); got != 5 {
		t.Errorf("revoked by a later denial = %d, want 5", got)
	}
}

// Emptied, brought back and emptied again: the second time counts too.
func TestBrakeCountsARevocationThatComesAgain(t *testing.T) {
	n := newNode(t)
	fleet := n.mountMany(10)
	n.revokeFive(fleet)
	n.allow()
	n.round(fleet, time.Minute)
	if got := n.emptied(fleet); got != 0 {
		t.Fatalf("empty volumes once allowed again = %d, want 0", got)
	}
	n.clock.advance(7 * time.Minute)
	n.deny()
	n.round(fleet, time.Minute) // noted, nine minutes after the first revocations
	got := n.round(fleet[:5], confirmAfter)
	got += n.round(fleet[5:], 90*time.Second) // and now it is more than ten
	if got > 5 {
		t.Errorf("revoked %d of 10 volumes within two minutes, want 5 at most", got)
	}
}

// A clock that was a year ahead for a moment must not hold the brake for a year.
func TestBrakeIgnoresTimesFarInTheFuture(t *testing.T) {
	const year = 365 * 24 * time.Hour
	n := newNode(t)
	fleet := n.mountMany(12)
	n.clock.advance(year)
	n.round(fleet, time.Second)
	n.revokeFive(fleet)
	n.allow()
	n.round(fleet, time.Minute)
	n.clock.advance(-year)
	for range 10 {
		n.round(fleet, time.Hour)
	}
	if got := n.emptied(fleet); got != 0 {
		t.Fatalf("empty volumes once allowed again = %d, want 0", got)
	}
	n.policy.engine.Store(policiestest.Engine(t, ""))
	victim := fleet[11:]
	n.round(victim, 10*time.Minute)
	n.round(victim, time.Minute)
	if got := n.emptied(victim); got != 1 {
		t.Error("the only denied volume of twelve was held back")
	}
}

// revokeFive denies the fleet, of which the brake lets five go.
func (n *node) revokeFive(fleet []pod) {
	n.t.Helper()
	n.deny()
	n.round(fleet[:5], 2*refreshInterval)
	if got := n.round(fleet[:5], confirmAfter); got != 5 {
		n.t.Fatalf("revoked = %d, want 5", got)
	}
	n.round(fleet[5:], time.Second)
}
