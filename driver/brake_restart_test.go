package driver_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// kubeletStep lies between two calls of a kubelet that has forty volumes.
const kubeletStep = 2 * time.Second

// calls is kubelet's next call for each of these pods, which may be told that it was
// revoked, and the time after it, in which the plugin confirms what it denied.
func (n *node) calls(pods []pod) {
	n.t.Helper()
	for _, p := range pods {
		if err := n.publish(p); err != nil {
			expectStatusOf(n.t, err, codes.Unavailable, "were revoked")
		}
		n.clock.advance(kubeletStep)
		time.Sleep(2 * time.Millisecond)
		n.awaitNothingDue()
	}
}

// awaitNothingDue waits until all is decided whose time has come.
func (n *node) awaitNothingDue() {
	n.t.Helper()
	n.driver.LookAtDue()
	n.await("nothing is due", func() bool { return n.driver.Due() == 0 && n.driver.LocksHeld() == 0 })
}

// expectAlarmOf waits for an alarm about so many volumes, or more.
func (n *node) expectAlarmOf(least int64) {
	n.t.Helper()
	n.await("an alarm", func() bool {
		return slices.ContainsFunc(n.recorded(), func(e audit.Event) bool { return e.Type == audit.TypeMassRevocation && e.Count >= least })
	})
}

// restarted is a node whose plugin comes back under another bundle: what kubelet asks
// is not known, and the first evaluations come one by one.
func restarted(t *testing.T, pods int) (n *node, fleet []pod, restart func()) {
	t.Helper()
	n, again := restartable(t, keepsRecords(t), func(s *setup) {
		s.policy = []policiestest.Option{imagesOf("registry.example")}
	})
	fleet = n.mountMany(pods)
	n.records.Flush()
	return n, fleet, func() {
		t.Helper()
		again()
		n.reauthorising()
		n.await("left to kubelet", func() bool {
			for _, p := range fleet {
				if !n.recordOf(p).Redecide {
					return false
				}
			}
			return true
		})
	}
}

// TestP9TheBrakeCountsWhoWasNotAskedYet: after a restart under a bundle that denies
// everything, five volumes go, and not all those that kubelet comes to before a fifth
// of the node was denied.
func TestP9TheBrakeCountsWhoWasNotAskedYet(t *testing.T) {
	t.Parallel()
	const pods, brake = 60, 5
	n, fleet, restart := restarted(t, pods)
	n.deny()
	restart()
	n.calls(fleet[:pods/4])
	if got := n.emptied(fleet); got != brake {
		t.Errorf("revoked = %d, want %d", got, brake)
	}
	n.expectAlarmOf(pods/5 + 1)
	n.calls(fleet[pods/4:])
	if got := n.emptied(fleet); got != brake {
		t.Errorf("revoked when all were asked = %d, want %d", got, brake)
	}
}

// TestP9FewDenialsAreNotHeldAfterARestart: what waits is revoked once all were asked,
// without another call of kubelet's, and without an alarm.
func TestP9FewDenialsAreNotHeldAfterARestart(t *testing.T) {
	t.Parallel()
	const pods, bad = 40, 7
	n, fleet, restart := restarted(t, pods)
	for i, p := range fleet {
		if i < bad {
			n.write("pod-"+p.uid+".yaml", strings.Replace(p.manifest(), "registry.example/main:1", fmt.Sprintf("evil.example/main:%d", i), 1))
		}
	}
	n.policy.engine.Store(policiestest.Engine(t, grants, imagesOf("registry.example"), policiestest.WithConfig("obligations: {audit_level: 2}")))
	restart()
	n.calls(fleet[:2*bad])
	if got := n.emptied(fleet); got != 5 {
		t.Errorf("revoked while others were not asked = %d, want 5", got)
	}
	n.calls(fleet[2*bad:])
	n.clock.advance(2 * confirmAfter)
	n.awaitRevoked(fleet[:bad]...)
	if got := n.emptied(fleet); got != bad {
		t.Errorf("revoked = %d, want %d", got, bad)
	}
	if text := n.stderr.String(); strings.Contains(text, "revocation has stopped") {
		t.Errorf("there was an alarm: %s", lastLines(text))
	}
}

// TestP9NobodyKeepsTheOutcomeOpen: a volume on which no decision is possible delays the
// others by two minutes, and not for as long as its owner likes.
func TestP9NobodyKeepsTheOutcomeOpen(t *testing.T) {
	t.Parallel()
	const pods, bad = 40, 7
	n, fleet, restart := restarted(t, pods)
	for i, p := range fleet[:bad] {
		n.write("pod-"+p.uid+".yaml", strings.Replace(p.manifest(), "registry.example/main:1", fmt.Sprintf("evil.example/main:%d", i), 1))
	}
	n.policy.engine.Store(policiestest.Engine(t, grants, imagesOf("registry.example"), policiestest.WithConfig("obligations: {audit_level: 2}")))
	restart()
	n.calls(fleet[:2*bad])
	if got := n.emptied(fleet); got != 5 {
		t.Errorf("revoked while others were not asked = %d, want 5", got)
	}
	n.clock.advance(2 * time.Minute) // the others are never asked
	n.awaitRevoked(fleet[:bad]...)
}

// relabel gives the namespace of the pods other labels.
func (n *node) relabel(label string) {
	n.t.Helper()
	n.write("objects.yaml", strings.Replace(objects, "metadata: {name: payments}", "metadata: {name: payments, labels: {"+label+"}}", 1))
}

// TestP9TheBrakeAsksBeforeTheSixth: a label of a namespace is no reason to ask about
// its volumes at once, so that denials come one by one with kubelet's calls. Before the
// sixth goes all are asked, and what was a mistake is known for one.
func TestP9TheBrakeAsksBeforeTheSixth(t *testing.T) {
	t.Parallel()
	const pods, brake = 60, 5
	n := newNode(t, func(s *setup) {
		s.policy = []policiestest.Option{policiestest.WithCheck("frozen", `# METADATA
# schemas:
#   - input: schema.input
package portcullis.checks.frozen

deny contains finding if {
	input.subject.namespaceLabels.frozen == "yes"
	finding := {"id": "PR-270", "severity": "high", "message": "the namespace is frozen", "remediation": "wait"}
}
`)}
	})
	fleet := n.mountMany(pods)
	n.reauthorising()
	n.clock.advance(2 * refreshInterval)
	n.relabel("frozen: 'yes'")
	n.calls(fleet[:pods/5-1])
	n.await("all are asked", func() bool {
		for _, p := range fleet {
			if n.recordOf(p).Denial.First.IsZero() {
				return false
			}
		}
		return true
	})
	n.clock.advance(2 * confirmAfter)
	n.expectAlarmOf(pods/5 + 1)
	n.awaitNothingDue()
	if got := n.emptied(fleet); got != brake {
		t.Errorf("revoked = %d, want %d", got, brake)
	}
	// The mistake is mended: what was held stays, and the five come back.
	n.relabel("frozen: 'no'")
	n.clock.advance(refreshInterval)
	n.calls(fleet)
	if got := n.emptied(fleet); got != 0 {
		t.Errorf("empty after the label was taken back = %d, want none", got)
	}
}
