//go:build attack

package driver_test

import (
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// TestABundleReachesAFullNode measures what OPERATIONS.md states: how long a
// bundle takes to be followed on a node with 110 volumes, and what it leaves in
// the log.
func TestABundleReachesAFullNode(t *testing.T) {
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		n := newNode(t, protection)
		fleet := n.mountMany(liveVolumes)
		mounts := len(n.events(2 * liveVolumes))
		n.reauthorising()
		began := time.Now()
		n.policy.engine.Store(policiestest.Engine(t, grants, policiestest.WithConfig("mass_revoke: true")))
		n.driver.PolicyChanged()
		n.awaitDecided(fleet...)
		t.Logf("allowed again after %v", time.Since(began))
		n.awaitIdle()
		events := n.events(mounts + liveVolumes)[mounts:]
		bytes := 0
		n.log.mu.Lock()
		for _, leaf := range n.log.leaves[mounts:] {
			bytes += len(leaf)
		}
		n.log.mu.Unlock()
		t.Logf("%d events of %d bytes", len(events), bytes)
		// What kubelet asks next is decided alike, and is no event of its own.
		n.round(fleet, 2*refreshInterval)
		time.Sleep(time.Second)
		if got := len(n.recorded()) - mounts; got != liveVolumes {
			t.Errorf("events of a bundle and the next republish = %d, want one a volume", got)
		}
		calls := len(n.provider.Calls())
		began = time.Now()
		n.deny(policiestest.WithConfig("mass_revoke: true"))
		n.driver.PolicyChanged()
		n.awaitRevoked(fleet...)
		took := time.Since(began)
		t.Logf("revoked after %v", took)
		if took < confirmAfter || took > 25*time.Second {
			t.Errorf("the last of %d volumes was revoked after %v, want two evaluations, and at most 25 s", liveVolumes, took)
		}
		n.expectCalls(calls)
	})
}
