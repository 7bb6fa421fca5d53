// The race detector sees no more in thousands of events that one goroutine
// records than in a few, and takes some twenty times as long.

//go:build !race

package audit_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/audittest"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// TestClaimsLeaveRoomForWhatIsConfirmed: where somebody can make requests that
// claim to be of another namespace, its own denials must be listed all the same.
func TestClaimsLeaveRoomForWhatIsConfirmed(t *testing.T) {
	r, l := audittest.New(t)
	l.Begin(1, epochBytes)
	for i := range 5000 {
		record(t, r, audit.Rejected(audit.Claim{Namespace: "payments", Pod: fmt.Sprintf("p%d", i)}, audit.ReasonIdentityUnconfirmed))
	}
	own := denialsOf(t, "payments")
	for range 200 {
		record(t, r, own.next())
	}
	var claimed, confirmed, bytes int
	leaves := l.Leaves()
	for i, e := range l.Events(t) {
		bytes += len(leaves[i])
		if e.Actor.Unconfirmed {
			claimed++
		} else {
			confirmed++
		}
	}
	if confirmed != 200 || claimed < 200 || claimed == 5000 || bytes > epochBytes/4 {
		t.Errorf("%d confirmed and %d claimed refusals in %d bytes are listed, want all 200 and some", confirmed, claimed, bytes)
	}
}

// TestManyNamespacesGetNoShareAnew: an attacker with very many namespaces must
// neither push himself out of the accounts nor a quiet namespace over its share.
func TestManyNamespacesGetNoShareAnew(t *testing.T) {
	r, l := audittest.New(t)
	const limit = 8 << 20
	l.Begin(1, limit)
	flood := denialsOf(t, "loud")
	for range 4000 {
		record(t, r, flood.next())
	}
	before := accountFor(t, l, "loud")
	for i := range 3000 {
		record(t, r, audit.Rejected(audit.Claim{Namespace: fmt.Sprintf("made-up-%d", i), Pod: "p"}, audit.ReasonInvalidRequest))
	}
	for range 100 {
		record(t, r, flood.next())
	}
	record(t, r, audit.Decided(policiestest.Deny(t)))
	if after := accountFor(t, l, "loud"); after.listed != before.listed || before.listed == 4000 {
		t.Errorf("%d denials are listed after others came, want the %d of before", after.listed, before.listed)
	}
	if got := accountFor(t, l, "payments"); got.listed != 1 {
		t.Errorf("%d denials of the quiet namespace are listed, want 1", got.listed)
	}
}

// TestOwedEventsAreBoundedInBytes: a namespace that asks for a thousand copies
// of a secret with a long id must not fill the plugin's memory.
func TestOwedEventsAreBoundedInBytes(t *testing.T) {
	const n, limit = 20, 4 << 20
	r, l := audittest.New(t, func(c *audit.Config) { c.QueueBytes = limit })
	l.Fail(errDisk)
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	for i := range n {
		r.Owe(denialOf(t, i, 1000)) // 1.6 MB each
	}
	if grown := heap() - before; grown > 3*limit {
		t.Errorf("heap grew by %d bytes, want at most %d", grown, 3*limit)
	}
	l.Fail(nil)
	var missing, written int64
	for _, e := range audittest.Closed(t, r, l) {
		missing += e.Count
		if e.Part != nil && e.Part.Number == e.Part.Of {
			written++
		}
	}
	if written == 0 || missing == 0 || written+missing != n {
		t.Errorf("%d events written and %d counted as missing, want some of both and %d together", written, missing, n)
	}
}
