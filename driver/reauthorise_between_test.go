package driver_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/driver"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// revocations counts the events of volumes that were emptied.
func (n *node) revocations() (count int) {
	n.t.Helper()
	for _, e := range n.recorded() {
		if e.Type == audit.TypeRevoke && e.Outcome == audit.OutcomeSuccess {
			count++
		}
	}
	return count
}

// TestP9ABundleThatCameInBetweenDecides: a bundle that was published in a hurry to
// mend the one before comes into force between a confirmed denial and what it would
// have taken away.
func TestP9ABundleThatCameInBetweenDecides(t *testing.T) {
	for name, kubelet := range map[string]bool{"of our own accord": false, "in a call of kubelet's": true} {
		t.Run(name, func(t *testing.T) {
			var n *node
			var mended *policies.Engine
			var armed atomic.Bool
			n = newNode(t, func(s *setup) {
				s.configure = func(c *driver.Config) {
					c.Decided = func(d policies.Decision) {
						if d.Verdict() == policies.VerdictDeny && armed.CompareAndSwap(true, false) {
							n.policy.engine.Store(mended)
							n.driver.PolicyChanged()
						}
					}
				}
			})
			mended = policiestest.Engine(t, grants, policiestest.WithConfig("mass_revoke: true"))
			n.mustPublish(apiPod())
			stop := n.reauthorising()
			n.deny()
			n.driver.PolicyChanged()
			n.awaitDenied(apiPod())
			if kubelet {
				stop()
			}
			armed.Store(true)
			n.clock.advance(2 * confirmAfter)
			if kubelet {
				n.mustPublish(apiPod())
				n.reauthorising()
			}
			n.await("a second denial", func() bool { return !armed.Load() })
			n.awaitDecided(apiPod())
			n.expectContent(apiPod(), secretFiles())
			if rec := n.recordOf(apiPod()); !rec.Denial.First.IsZero() || !rec.Denial.RevokedAt.IsZero() {
				t.Errorf("denial = %+v, want none that is left", rec.Denial)
			}
			n.awaitIdle()
			if got := n.revocations(); got != 0 {
				t.Errorf("revocations = %d, want none", got)
			}
			n.mustLater(apiPod(), 2*refreshInterval)
			n.expectContent(apiPod(), secretFiles())
		})
	}
}

// TestP9ADenialOutlivesABundleOfAMoment: a bundle that is in force for a moment takes
// the confirmation of an earlier denial along with its own plan. Nobody need wait for
// kubelet's call to have it.
func TestP9ADenialOutlivesABundleOfAMoment(t *testing.T) {
	n := newNode(t)
	n.mustPublish(apiPod())
	n.reauthorising()
	n.deny()
	denying := n.policy.Active()
	n.driver.PolicyChanged()
	n.awaitDenied(apiPod())
	n.deny(policiestest.WithConfig("mass_revoke: true"))
	n.driver.PolicyChanged()
	n.await("the plan of the second", func() bool { return n.gauge("portcullis_reauthorisations_pending") == 1 })
	time.Sleep(2 * time.Millisecond)
	n.policy.engine.Store(denying)
	n.driver.PolicyChanged()
	time.Sleep(100 * time.Millisecond)
	n.clock.advance(2 * confirmAfter)
	n.awaitRevoked(apiPod())
	n.expectCalls(1)
}

// TestP9KilledBeforeARevocationIsOnRecord: the plugin is killed after it emptied a
// volume, and before volumes.db and the log knew. The next one tells it, whatever
// policy says by then, and what policy allows again comes back with kubelet's next
// call and not when it would have been fetched anew.
func TestP9KilledBeforeARevocationIsOnRecord(t *testing.T) {
	for name, allowed := range map[string]bool{"still denied": false, "allowed again": true} {
		t.Run(name, func(t *testing.T) {
			var dir string
			n, restart := restartable(t, keepsRecords(t), func(s *setup) {
				dir = s.stateDir
				s.rotation = driver.Rotation{Enabled: true, Interval: time.Hour}
			})
			n.mustPublish(apiPod())
			stop := n.reauthorising()
			n.deny()
			n.driver.PolicyChanged()
			n.awaitDenied(apiPod())
			n.records.Flush()
			file := filepath.Join(dir, "volumes.db")
			before, err := os.ReadFile(file)
			if err != nil || !strings.Contains(string(before), `"denial"`) {
				t.Fatalf("volumes.db = %q, %v, want the denial in it", before, err)
			}
			n.clock.advance(confirmAfter)
			n.awaitRevoked(apiPod())
			stop()
			n.records.Flush()
			if err := os.WriteFile(file, before, 0o600); err != nil {
				t.Fatal(err)
			}
			n.log.mu.Lock()
			n.log.leaves = nil // what was owed died with the process
			n.log.mu.Unlock()
			if allowed {
				n.allow()
			}
			restart()
			n.reauthorising()
			if allowed {
				n.await("left to kubelet", func() bool { return n.recordOf(apiPod()).Redecide })
				n.mustPublish(apiPod())
				n.expectContent(apiPod(), secretFiles())
				n.expectCalls(2)
			} else {
				n.clock.advance(confirmAfter)
				expectStatus(t, n.publish(apiPod()), codes.Unavailable, "the mounted secrets were revoked: denied by policy: PR-001")
				n.mustLater(apiPod(), confirmAfter)
				n.expectContent(apiPod(), nil)
				n.expectCalls(1)
			}
			n.await("the event", func() bool { return n.revocations() > 0 })
			n.mustLater(apiPod(), confirmAfter)
			if got := n.revocations(); got != 1 {
				t.Errorf("revocations in the log = %d, want one: %s", got, summary(n.recorded()))
			}
			if !allowed {
				return
			}
			if d := n.recordOf(apiPod()).Denial; d.RevokedAt.IsZero() || d.Empty {
				t.Errorf("denial = %+v, want that the brake counts it, and no more", d)
			}
		})
	}
}
