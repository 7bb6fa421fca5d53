package driver_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// keepsRecords has every process of a node find volumes.db.
func keepsRecords(t *testing.T) func(*setup) {
	t.Helper()
	dir := t.TempDir()
	return func(s *setup) { s.stateDir = dir }
}

func TestP9ARestartBetweenTwoDenials(t *testing.T) {
	n, restart := restartable(t, keepsRecords(t))
	n.mustPublish(apiPod())
	stop := n.reauthorising()
	n.deny()
	n.driver.PolicyChanged()
	n.awaitDenied(apiPod())
	stop()
	n.records.Flush()
	restart()
	n.reauthorising()
	n.clock.advance(2 * confirmAfter)
	time.Sleep(1500 * time.Millisecond)
	// What kubelet would ask now is not known.
	n.expectContent(apiPod(), secretFiles())
	expectStatus(t, n.publish(apiPod()), codes.Unavailable, "were revoked")
	n.expectContent(apiPod(), nil)
	n.mustPublish(apiPod())
	n.expectCalls(1)
}

func TestP9ARestartAfterARevocation(t *testing.T) {
	n, restart := restartable(t, keepsRecords(t))
	n.mustPublish(apiPod())
	stop := n.reauthorising()
	n.deny()
	n.driver.PolicyChanged()
	n.awaitDenied(apiPod())
	n.clock.advance(confirmAfter)
	n.await("revoked", func() bool { return n.recordOf(apiPod()).Denial.Empty })
	stop()
	n.records.Flush()
	restart()
	n.reauthorising()
	expectStatus(t, n.publish(apiPod()), codes.Unavailable, "the mounted secrets were revoked: denied by policy: PR-001")
	n.mustPublish(apiPod())
	n.expectContent(apiPod(), nil)
}

func TestARestartDecidesAgainByAnotherBundleAlone(t *testing.T) {
	n, restart := restartable(t, keepsRecords(t))
	n.mustPublish(apiPod())
	n.records.Flush()
	restart()
	stop := n.reauthorising()
	time.Sleep(1200 * time.Millisecond)
	if rec := n.recordOf(apiPod()); rec.Redecide {
		t.Errorf("record = %+v, want nothing to decide: the bundle is the same", rec)
	}
	stop()
	n.records.Flush()
	n.policy.engine.Store(policiestest.Engine(t, grants, policiestest.WithConfig("mass_revoke: true")))
	restart()
	n.reauthorising()
	n.await("left to kubelet", func() bool { return n.recordOf(apiPod()).Redecide })
	before := n.recordOf(apiPod())
	n.mustPublish(apiPod())
	after := n.recordOf(apiPod())
	if after.Redecide || after.Bundle != n.policy.Active().Digest() || !after.DueAt.Equal(before.DueAt) {
		t.Errorf("record = %+v after %+v, want it decided, and fetched when it would have been", after, before)
	}
	n.expectCalls(1)
	// From now on it is known what kubelet asks.
	n.deny()
	n.driver.PolicyChanged()
	n.awaitDenied(apiPod())
}

// TestP2OnlyWhatKubeletWouldAskIsDecided: the tokens of the next request are the
// one thing that nobody but kubelet has.
func TestP2OnlyWhatKubeletWouldAskIsDecided(t *testing.T) {
	for name, c := range map[string]struct {
		unknownKey bool
		change     string // objects
		denied     bool
	}{
		"verified tokens are":                {denied: true},
		"a key that nobody knew is not":      {unknownKey: true},
		"another CSIDriver object is not":    {change: strings.Replace(objects+driverObject(tokensInSecrets), "metadata: {name: "+driverName, "metadata: {resourceVersion: '7', name: "+driverName, 1)},
		"a service account made anew is not": {change: strings.Replace(objects+driverObject(tokensInSecrets), accountUID, apiUID, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.write("objects.yaml", objects+driverObject(tokensInSecrets))
			p := apiPod()
			p.tokens = n.issuer.of(p, "vault")
			if c.unknownKey {
				p.tokens = newTokenIssuer(t).of(p, "vault")
				p.tokens["vault"] = strings.Replace(p.tokens["vault"], base64url([]byte(`{"alg":"ES256","kid":"k1"}`)), base64url([]byte(`{"alg":"ES256","kid":"k2"}`)), 1)
			}
			n.mustPublish(p)
			n.reauthorising()
			if c.change != "" {
				n.write("objects.yaml", c.change)
			}
			n.deny()
			n.driver.PolicyChanged()
			if c.denied {
				n.awaitDenied(p)
				return
			}
			n.await("left to kubelet", func() bool { return n.recordOf(p).Redecide })
			n.expectReauthorised(map[string]int64{"policy left": 1})
			if got := summary(n.recorded()); got != "PC2001I intent, PC2001I complete" {
				t.Errorf("events = %s, want none of what was not decided", got)
			}
			n.expectContent(p, secretFiles())
		})
	}
}

// TestP2OurDecisionIsKubelets: with tokens, too, both see the same input.
func TestP2OurDecisionIsKubelets(t *testing.T) {
	for name, object := range map[string]string{"in secrets": tokensInSecrets, "in the context": tokensInContext} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.write("objects.yaml", objects+driverObject(object))
			p := apiPod()
			publish := func() {
				t.Helper()
				req := n.request(p)
				tokens := n.issuer.of(p, "vault", "aws")
				if object == tokensInContext {
					req.VolumeContext[tokensKey] = kubeletTokensText(tokens)
				} else {
					req.Secrets = kubeletTokens(tokens)
				}
				if _, err := n.csi.NodePublishVolume(t.Context(), req); err != nil {
					t.Fatal(err)
				}
			}
			publish()
			n.reauthorising()
			n.policy.engine.Store(policiestest.Engine(t, grants, policiestest.WithConfig("mass_revoke: true")))
			n.driver.PolicyChanged()
			n.awaitDecided(p)
			ours := n.recordOf(p)
			n.clock.advance(2 * refreshInterval)
			publish()
			if kubelets := n.recordOf(p); kubelets.DecisionID != ours.DecisionID || !ours.TokenVerified {
				t.Errorf("our decision %q (verified %t), kubelet's %q, want the same", ours.DecisionID, ours.TokenVerified, kubelets.DecisionID)
			}
		})
	}
}

// TestP8UnpublishGoesBeforeReauthorisation, all the time, from many sides.
func TestP8UnpublishGoesBeforeReauthorisation(t *testing.T) {
	n := newNode(t, func(s *setup) { s.policy = []policiestest.Option{policiestest.WithConfig("mass_revoke: true")} })
	n.reauthorising()
	var pods []pod
	for i := range 6 {
		pods = append(pods, numbered(i))
		n.add(pods[i])
	}
	engines := []*policies.Engine{
		policiestest.Engine(t, grants, policiestest.WithConfig("mass_revoke: true")), policiestest.Engine(t, grants),
	}
	ctx, stop := context.WithCancel(t.Context())
	var storm sync.WaitGroup
	storm.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			n.policy.engine.Store(engines[i%len(engines)])
			n.driver.PolicyChanged()
			for _, p := range pods {
				n.driver.PodChanged(p.uid)
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	for range 8 {
		for what, call := range map[string]func(pod) error{"publish": n.publish, "republish": n.publish} {
			for i, err := range together(pods, call) {
				if err != nil {
					t.Errorf("%s of %s = %v, want nil", what, pods[i].name, err)
				}
			}
		}
		for i, err := range together(pods, n.unpublish) {
			if err != nil {
				t.Errorf("unpublish of %s = %v, want nil", pods[i].name, err)
			}
		}
	}
	stop()
	storm.Wait()
	n.awaitIdle()
	if n.records.Len() > 0 || n.driver.Refreshing() > 0 || n.driver.Remembered() > 0 {
		t.Errorf("left: %d records, %d refreshes, %d requests, want nothing", n.records.Len(), n.driver.Refreshing(), n.driver.Remembered())
	}
	for _, e := range n.recorded() {
		if e.Reason != "" {
			t.Errorf("event %s %s, want none that says something failed", e.Code, e.Reason)
		}
	}
}
