package driver_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/audittest"
	"github.com/portcullis-csi/portcullis/driver"
	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// reauthorising has the driver decide of its own accord, as the plugin does,
// until stop is called or the test ends.
func (n *node) reauthorising() (stop func()) {
	n.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	d := n.driver // a restart puts another there
	go func() {
		defer close(done)
		d.Reauthorise(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	n.t.Cleanup(stop)
	return stop
}

// await waits until something is so.
func (n *node) await(what string, so func() bool) {
	n.t.Helper()
	for deadline := time.Now().Add(40 * time.Second); !so(); {
		if time.Now().After(deadline) {
			n.t.Fatalf("%s: not so; the log: %s", what, lastLines(n.stderr.String()))
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (n *node) recordOf(p pod) driver.Record {
	rec, _ := n.records.Get(p.uid, volume)
	return rec
}

// awaitDenied waits until each pod was denied once.
func (n *node) awaitDenied(pods ...pod) {
	n.t.Helper()
	n.await("denied", func() bool {
		for _, p := range pods {
			if n.recordOf(p).Denial.First.IsZero() {
				return false
			}
		}
		return true
	})
}

// awaitDecided waits until the bundle in force has decided on each pod.
func (n *node) awaitDecided(pods ...pod) {
	n.t.Helper()
	n.await("decided", func() bool {
		for _, p := range pods {
			if n.recordOf(p).Bundle != n.policy.Active().Digest() {
				return false
			}
		}
		return true
	})
}

// awaitRevoked waits until each pod has an empty volume.
func (n *node) awaitRevoked(pods ...pod) {
	n.t.Helper()
	n.await("revoked", func() bool {
		for _, p := range pods {
			if !n.recordOf(p).Denial.Empty {
				return false
			}
		}
		return true
	})
	if got := n.emptied(pods); got != len(pods) {
		n.t.Errorf("volumes that are empty = %d, want %d", got, len(pods))
	}
}

// awaitIdle waits until nothing is to be decided any more.
func (n *node) awaitIdle() {
	n.t.Helper()
	n.await("nothing pending", func() bool {
		return n.gauge("portcullis_reauthorisations_pending") == 0 && n.driver.LocksHeld() == 0
	})
}

func (n *node) expectCalls(want int) {
	n.t.Helper()
	if got := len(n.provider.Calls()); got != want {
		n.t.Errorf("provider calls = %d, want %d", got, want)
	}
}

// expectReauthorised compares the counter, by cause and outcome, when those that were
// asked have let go of their volumes: a record is written before it is counted.
func (n *node) expectReauthorised(want map[string]int64) {
	n.t.Helper()
	n.await("no volume is in use", func() bool { return n.driver.LocksHeld() == 0 })
	got := map[string]int64{}
	for name, count := range n.collect() {
		if labels, ok := strings.CutPrefix(name, "portcullis_reauthorisations{cause="); ok {
			got[strings.NewReplacer(",os_type=linux,outcome=", " ", "}", "").Replace(labels)] = count
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		n.t.Errorf("portcullis_reauthorisations (-want +got):\n%s", diff)
	}
}

func TestP9ABundleInForceRevokesWithoutKubelet(t *testing.T) {
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		n := newNode(t, protection)
		n.mustPublish(apiPod())
		n.reauthorising()
		mounted := mountLines(t, n.target(apiPod()))
		n.deny()
		n.driver.PolicyChanged()
		n.awaitDenied(apiPod())
		n.expectContent(apiPod(), secretFiles())
		n.clock.advance(confirmAfter / 2)
		time.Sleep(1500 * time.Millisecond) // the queue is looked at once a second
		n.expectContent(apiPod(), secretFiles())
		n.clock.advance(confirmAfter)
		n.awaitRevoked(apiPod())
		n.expectContent(apiPod(), nil)
		if diff := cmp.Diff(mounted, mountLines(t, n.target(apiPod()))); diff != "" {
			t.Errorf("mount table changed (-before +after):\n%s", diff)
		}
		n.awaitIdle()
		n.expectReauthorised(map[string]int64{"policy deny": 1, "denial deny": 1})
		// Kubelet is told once, whether its call is due or not.
		expectStatus(t, n.publish(apiPod()), codes.Unavailable, "the mounted secrets were revoked: denied by policy: PR-001", "; hint: ", "; decision ")
		for range 3 {
			n.mustLater(apiPod(), confirmAfter)
		}
		n.allow()
		n.driver.PolicyChanged()
		n.awaitDecided(apiPod())
		n.expectContent(apiPod(), nil)
		n.expectCalls(1)
		n.mustPublish(apiPod())
		n.expectContent(apiPod(), secretFiles())
		n.expectCalls(2)
		events := n.expectEvents("PC2001I intent", "PC2001I complete", "PC2002W  PolicyDenied", "PC2008I  PolicyDenied", "PC2002I", "PC2002I complete")
		if events[3].ParentID != events[2].ID {
			t.Errorf("parent of the revocation = %q, want the denial %q", events[3].ParentID, events[2].ID)
		}
		n.mustUnpublish(apiPod())
		n.expectNothing(apiPod())
	})
}

func TestP9WhatABundleAllowsIsNotTouched(t *testing.T) {
	var decisions atomic.Int64
	n := newNode(t, func(s *setup) {
		s.configure = func(c *driver.Config) { c.Decided = func(policies.Decision) { decisions.Add(1) } }
	})
	n.mustPublish(apiPod())
	first := n.recordOf(apiPod())
	n.reauthorising()
	time.Sleep(100 * time.Millisecond)
	if got := decisions.Load(); got != 1 {
		t.Errorf("decisions = %d, want the mount's alone: its bundle is in force", got)
	}
	n.policy.engine.Store(policiestest.Engine(t, grants, policiestest.WithConfig("mass_revoke: true")))
	n.driver.PolicyChanged()
	n.awaitDecided(apiPod())
	n.driver.PolicyChanged()
	n.awaitIdle()
	time.Sleep(100 * time.Millisecond)
	again := n.recordOf(apiPod())
	if got := decisions.Load(); got != 2 || again.DecisionID == first.DecisionID || !again.DueAt.Equal(first.DueAt) {
		t.Errorf("decisions = %d, id %q after %q, due %v after %v, want 2, another id and no other time", got, again.DecisionID, first.DecisionID, again.DueAt, first.DueAt)
	}
	n.expectContent(apiPod(), secretFiles())
	n.expectCalls(1)
	events := n.expectEvents("PC2001I intent", "PC2001I complete", "PC2002I")
	// Kubelet's own decision is the same one, and counted with it (promise P2).
	n.mustLater(apiPod(), 2*refreshInterval)
	if got := n.recordOf(apiPod()).DecisionID; got != again.DecisionID || events[2].Policy.DecisionID != again.DecisionID {
		t.Errorf("kubelet's decision %q, ours %q, the event's %q, want one", got, again.DecisionID, events[2].Policy.DecisionID)
	}
	n.expectEvents("PC2001I intent", "PC2001I complete", "PC2002I")
}

func TestATimeToLiveThatGetsShorterBringsTheFetchForward(t *testing.T) {
	n := newNode(t, func(s *setup) { s.rotation = driver.Rotation{Enabled: true, Interval: time.Hour} })
	n.mustPublish(apiPod())
	n.reauthorising()
	n.policy.engine.Store(policiestest.Engine(t, grants, policiestest.WithConfig("obligations: {ttl_seconds: 100, on_expire: scrub}")))
	n.clock.advance(2 * time.Minute)
	n.driver.PolicyChanged()
	n.awaitDecided(apiPod())
	n.expectContent(apiPod(), secretFiles()) // there was no chance to fetch it in time
	n.expectCalls(1)
	n.mustPublish(apiPod())
	n.expectContent(apiPod(), secretFiles())
	n.expectCalls(2)
}

// imagesOf is a policy that allows images of one registry.
func imagesOf(registry string) policiestest.Option {
	return policiestest.WithCheck("registry", strings.Replace(`# METADATA
# schemas:
#   - input: schema.input
package portcullis.checks.registry

deny contains finding if {
	some container in input.pod.containers
	not startswith(container.image, "REGISTRY/")
	finding := {"id": "PR-260", "severity": "high", "message": sprintf("image of container %s", [container.name]), "remediation": "use an image of the registry"}
}
`, "REGISTRY", registry, 1))
}

// patch gives a running pod another image.
func (n *node) patch(p pod, image string) {
	n.t.Helper()
	n.write("pod-"+p.uid+".yaml", strings.Replace(p.manifest(), "registry.example/main:1", image, 1))
	n.driver.PodChanged(p.uid)
}

func TestP9AnotherImageRevokes(t *testing.T) {
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		n := newNode(t, protection, func(s *setup) { s.policy = []policiestest.Option{imagesOf("registry.example")} })
		n.mustPublish(apiPod())
		other := numbered(1)
		n.add(other)
		n.mustPublish(other)
		n.reauthorising()
		n.patch(apiPod(), "registry.example/main:2")
		n.awaitIdle()
		n.patch(apiPod(), "evil.example/main:1")
		n.awaitDenied(apiPod())
		n.clock.advance(confirmAfter)
		n.awaitRevoked(apiPod())
		n.expectContent(apiPod(), nil)
		n.expectContent(other, secretFiles())
		n.expectCalls(2)
		n.awaitIdle()
		n.expectReauthorised(map[string]int64{"pod allow": 1, "pod deny": 1, "denial deny": 1})
		expectStatus(t, n.publish(apiPod()), codes.Unavailable, "denied by policy: PR-260")
		n.patch(apiPod(), "registry.example/main:1")
		n.await("allowed", func() bool { return n.recordOf(apiPod()).Denial.First.IsZero() })
		n.mustPublish(apiPod())
		n.expectContent(apiPod(), secretFiles())
	})
}

// TestP9AnImageThatChangesDuringARefresh: the refresh has decided on the image
// before. It is not what stands in the end.
func TestP9AnImageThatChangesDuringARefresh(t *testing.T) {
	for name, mounted := range map[string]bool{"of a volume": true, "that is the first publish": false} {
		t.Run(name, func(t *testing.T) {
			asked, reply := make(chan struct{}), make(chan struct{})
			hold := providertest.Handler(func(ctx context.Context, r *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
				close(asked)
				<-reply
				return providertest.Files(secretFiles())(ctx, r)
			})
			n := newNode(t, func(s *setup) {
				s.policy = []policiestest.Option{imagesOf("registry.example")}
				s.provider.Handler = hold
				if mounted {
					s.provider.Handler = providertest.InTurn(providertest.Files(secretFiles()), hold)
				}
			})
			if mounted {
				n.mustPublish(apiPod())
				n.clock.advance(2 * refreshInterval)
			}
			n.reauthorising()
			call := make(chan error, 1)
			go func() { call <- n.publish(apiPod()) }()
			<-asked
			n.patch(apiPod(), "evil.example/main:1")
			time.Sleep(200 * time.Millisecond)
			close(reply)
			if err := <-call; err != nil {
				t.Fatalf("NodePublishVolume() = %v, want nil: it decided before", err)
			}
			n.awaitDenied(apiPod())
			n.clock.advance(confirmAfter)
			n.awaitRevoked(apiPod())
			n.expectContent(apiPod(), nil)
		})
	}
}

func TestP9ErrorsOfReauthorisationKeepContent(t *testing.T) {
	for name, c := range map[string]struct {
		breakIt func(*node)
		reason  audit.Reason
	}{
		"API server down": {func(n *node) { n.write("objects.yaml", "}{"); n.deny() }, audit.ReasonFactsUnavailable},
		"bundle expired":  {func(n *node) { n.policy.engine.Store(ended(n)) }, audit.ReasonBundleExpired},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it waits for real time to pass
			n := newNode(t)
			n.mustPublish(apiPod())
			before := n.recordOf(apiPod())
			n.reauthorising()
			c.breakIt(n)
			n.driver.PolicyChanged()
			for range 12 { // every try, and then some
				n.clock.advance(time.Minute)
				time.Sleep(1100 * time.Millisecond)
			}
			n.awaitIdle()
			n.expectContent(apiPod(), secretFiles())
			after := n.recordOf(apiPod())
			if !after.Denial.First.IsZero() || after.Failures != 0 || !after.DueAt.Equal(before.DueAt) || !after.Redecide {
				t.Errorf("record = %+v, want that kubelet's next call decides, and nothing else changed", after)
			}
			n.expectReauthorised(map[string]int64{"policy error": 6, "policy left": 1})
			events := n.events(3)
			if got := events[2].Reason; got != c.reason || len(events) != 3 {
				t.Errorf("events = %s, want one with %s", summary(events), c.reason)
			}
			n.write("objects.yaml", objects)
			n.deny()
			n.mustPublish(apiPod())
			n.awaitDenied(apiPod())
			n.clock.advance(confirmAfter)
			n.awaitRevoked(apiPod())
		})
	}
}

// ended is an engine whose bundle has ended.
func ended(n *node) *policies.Engine {
	n.t.Helper()
	manifest := fmt.Sprintf(`{"revision":"test","roots":["portcullis"],"rego_version":1,"metadata":{"contract":"portcullis/v1","serial":1,"not_after":%q}}`,
		time.Now().Add(30*time.Second).UTC().Format(time.RFC3339))
	b, err := bundle.LoadFS(policiestest.Files("", policiestest.WithFile(".manifest", manifest)))
	if err != nil {
		n.t.Fatal(err)
	}
	e, err := policies.Compile(n.t.Context(), b, policies.Options{Budget: 30 * time.Second})
	if err != nil {
		n.t.Fatal(err)
	}
	n.clock.advance(time.Minute)
	return e
}

func TestP8ReauthorisationWaitsForNoLog(t *testing.T) {
	log := &audittest.Log{}
	n := newNode(t, func(s *setup) {
		s.events = log
		s.policy = []policiestest.Option{policiestest.WithConfig("mass_revoke: true")}
	})
	fleet := n.mountMany(24)
	release := log.Hang()
	defer release()
	n.reauthorising()
	began := time.Now()
	n.policy.engine.Store(policiestest.Engine(t, grants, policiestest.WithConfig("mass_revoke: false")))
	n.driver.PolicyChanged()
	n.awaitDecided(fleet...)
	n.deny(policiestest.WithConfig("mass_revoke: true"))
	n.driver.PolicyChanged()
	n.awaitDenied(fleet...)
	n.clock.advance(confirmAfter)
	n.awaitRevoked(fleet...)
	// Three times 24 evaluations at twenty a second; a wait for the log would be
	// two seconds for each.
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("with a log that hangs it took %v, want no wait", took)
	}
	n.expectCalls(len(fleet))
	release()
}

func TestP9BundlesThatComeQuickly(t *testing.T) {
	n := newNode(t)
	fleet := n.mountMany(12)
	n.reauthorising()
	for range 3 {
		n.deny()
		n.driver.PolicyChanged()
		time.Sleep(200 * time.Millisecond)
		n.deny(policiestest.WithConfig("mass_revoke: true"))
		n.driver.PolicyChanged()
		time.Sleep(200 * time.Millisecond)
		n.policy.engine.Store(policiestest.Engine(t, grants, policiestest.WithConfig("mass_revoke: true")))
		n.driver.PolicyChanged()
	}
	n.awaitDecided(fleet...)
	n.clock.advance(2 * confirmAfter)
	time.Sleep(1500 * time.Millisecond)
	n.awaitIdle()
	n.expectCalls(len(fleet))
	for _, p := range fleet {
		n.expectContent(p, secretFiles())
	}
}

func TestP9TheBrakeHoldsReauthorisation(t *testing.T) {
	const pods, brake = 24, 5
	n := newNode(t)
	fleet := n.mountMany(pods)
	n.reauthorising()
	n.deny()
	n.driver.PolicyChanged()
	n.awaitDenied(fleet...)
	n.clock.advance(confirmAfter)
	n.await("the brake holds", func() bool { return n.gauge("portcullis_revocations_held") == pods-brake })
	n.awaitIdle()
	if got := n.emptied(fleet); got != brake {
		t.Errorf("revoked = %d, want %d", got, brake)
	}
	n.expectAlarm(pods)
	n.deny(policiestest.WithConfig("mass_revoke: true"))
	n.driver.PolicyChanged()
	n.awaitRevoked(fleet...)
	told := 0
	for _, p := range fleet {
		if err := n.publish(p); err != nil {
			expectStatusOf(t, err, codes.Unavailable, "were revoked")
			told++
		}
		n.mustPublish(p)
	}
	if told != pods {
		t.Errorf("pods that were told = %d, want %d", told, pods)
	}
	n.expectCalls(pods)
}

func TestP9PolicyCanKeepWhatReauthorisationDenies(t *testing.T) {
	n := newNode(t)
	n.mustPublish(apiPod())
	n.reauthorising()
	n.deny(policiestest.WithConfig("obligations: {on_revoke: keep}"))
	n.driver.PolicyChanged()
	n.awaitDenied(apiPod())
	n.clock.advance(2 * confirmAfter)
	n.await("confirmed", func() bool { d := n.recordOf(apiPod()).Denial; return d.Last.Sub(d.First) >= confirmAfter })
	n.awaitIdle()
	n.expectContent(apiPod(), secretFiles())
	n.mustLater(apiPod(), confirmAfter)
	n.expectContent(apiPod(), secretFiles())
	n.expectCalls(1)
}
