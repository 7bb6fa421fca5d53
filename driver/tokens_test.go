package driver_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// demandsTokens is a policy that grants only on verified tokens, and to pods of
// one audience.
func demandsTokens(s *setup) {
	s.policy = []policiestest.Option{policiestest.WithCheck("token", `# METADATA
# schemas:
#   - input: schema.input
package portcullis.checks.token

deny contains finding if {
	input.subject.tokenVerified == false
	finding := {"id": "PR-250", "severity": "high", "message": "no token confirms the pod", "remediation": "list an audience in tokenRequests"}
}

deny contains finding if {
	some token in input.tokens
	not token.verified
	finding := {"id": "PR-251", "severity": "high", "message": sprintf("token for %s not verified", [token.audience]), "remediation": "ask the platform team"}
}
`)}
}

// sentTokens are the tokens key's values that the provider's last request held.
func (n *node) sentTokens() string {
	n.t.Helper()
	calls := n.provider.Calls()
	if len(calls) == 0 {
		n.t.Fatal("the provider was not asked")
	}
	return calls[len(calls)-1].GetAttributes()
}

func TestTokensReachPolicyVerified(t *testing.T) {
	for name, c := range map[string]struct {
		object  string
		tokens  func(*tokenIssuer, pod) map[string]string
		context bool // kubelet writes them into the volume context
		rule    string
	}{
		"none":                 {tokensInSecrets, func(*tokenIssuer, pod) map[string]string { return nil }, false, "PR-250"},
		"good, in secrets":     {tokensInSecrets, func(i *tokenIssuer, p pod) map[string]string { return i.of(p, "vault") }, false, ""},
		"good, in the context": {tokensInContext, func(i *tokenIssuer, p pod) map[string]string { return i.of(p, "vault", "aws") }, true, ""},
		"forged": {tokensInSecrets, func(i *tokenIssuer, p pod) map[string]string {
			return map[string]string{"vault": forged(i.token(p, "vault", nil))}
		}, false, "PR-250"},
		"for another audience": {tokensInSecrets, func(i *tokenIssuer, p pod) map[string]string {
			return map[string]string{"vault": i.token(p, "aws", nil)}
		}, false, "PR-250"},
		"one good, and one that isn't": {tokensInSecrets, func(i *tokenIssuer, p pod) map[string]string {
			return map[string]string{"vault": i.token(p, "vault", nil), "aws": "x.y.z"}
		}, false, "PR-251"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, demandsTokens)
			n.write("objects.yaml", objects+driverObject(c.object))
			p := apiPod()
			p.tokens = c.tokens(n.issuer, p)
			req := n.request(p)
			if c.context {
				req.Secrets, req.VolumeContext[tokensKey] = nil, kubeletTokensText(p.tokens)
			}
			_, err := n.csi.NodePublishVolume(t.Context(), req)
			if c.rule != "" {
				expectStatus(t, err, codes.PermissionDenied, c.rule)
				n.expectNothing(p)
				return
			}
			if err != nil {
				t.Fatalf("NodePublishVolume() = %v, want nil", err)
			}
			// The provider finds them where it always did, wherever they came from.
			sent := n.sentTokens()
			for audience, token := range p.tokens {
				if !strings.Contains(sent, tokensKey) || !strings.Contains(sent, audience) || !strings.Contains(sent, token) {
					t.Errorf("the provider's attributes lack the token for %q", audience)
				}
			}
			if strings.Contains(n.stderr.String(), "token not verified") {
				t.Errorf("log = %s, want nothing about a token", n.stderr)
			}
			n.mustUnpublish(p)
		})
	}
}

// A request of another pod's token shows nothing to anybody, and its refusal
// tells nothing of the token.
func TestATokenOfAnotherPodIsRefused(t *testing.T) {
	n := newNode(t)
	p := apiPod()
	p.tokens = map[string]string{"vault": n.issuer.token(secondPod(), "vault", nil), "aws": n.issuer.token(p, "aws", nil)}
	err := n.publish(p)
	expectStatus(t, err, codes.PermissionDenied, "pod in a service account token")
	n.expectNothing(p)
	own := n.podEvents(p, 1)
	if last := own[len(own)-1]; last.Reason != audit.ReasonIdentityUnconfirmed {
		t.Errorf("events = %s, want %s", summary(own), audit.ReasonIdentityUnconfirmed)
	}
	told := fmt.Sprint(err, n.stderr, own)
	for _, token := range p.tokens {
		for _, part := range strings.Split(token, ".")[1:] {
			if strings.Contains(told, part) {
				t.Errorf("part of a token was told: %q", told)
			}
		}
	}
	if len(n.provider.Calls()) != 0 {
		t.Error("the provider was asked")
	}
}

func TestTokensThatCannotBeJudgedGrantNothing(t *testing.T) {
	n := newNode(t)
	n.issuer.down.Store(true)
	p := apiPod()
	p.tokens = n.issuer.of(p, "vault")
	expectStatus(t, n.publish(p), codes.Unavailable, "facts about the pod cannot be read", "; hint: the platform team sees the reason")
	n.expectNothing(p)
	if len(n.provider.Calls()) != 0 {
		t.Error("the provider was asked")
	}
	// Without tokens nothing has to be judged.
	p.tokens = nil
	n.mustPublish(p)
	n.mustUnpublish(p)
}

// TestP9WhateverBecomesOfTokensContentStays: on a republish none of it is an
// error, and none takes anything away.
func TestP9WhateverBecomesOfTokensContentStays(t *testing.T) {
	for name, change := range map[string]func(n *node, p *pod, r *csi.NodePublishVolumeRequest){
		"of another pod": func(n *node, _ *pod, r *csi.NodePublishVolumeRequest) {
			r.Secrets = kubeletTokens(n.issuer.of(secondPod(), "vault"))
		},
		"keys cannot be read": func(n *node, _ *pod, r *csi.NodePublishVolumeRequest) {
			n.issuer.down.Store(true)
		},
		"signed with a key that is published no more": func(n *node, p *pod, r *csi.NodePublishVolumeRequest) {
			header, _, _ := strings.Cut(n.issuer.token(*p, "vault", nil), ".")
			token := strings.Replace(n.issuer.token(*p, "vault", nil), header, base64url([]byte(`{"alg":"ES256","kid":"k0"}`)), 1)
			r.Secrets = kubeletTokens(map[string]string{"vault": token})
		},
		"an author's in the context": func(_ *node, _ *pod, r *csi.NodePublishVolumeRequest) {
			r.VolumeContext[tokensKey] = `{"vault":{"token":"x"}}`
		},
		"podInfoOnMount turned off": func(n *node, _ *pod, _ *csi.NodePublishVolumeRequest) {
			n.write("objects.yaml", objects+driverObject("{podInfoOnMount: false}"))
		},
		"mirror annotation": func(n *node, p *pod, _ *csi.NodePublishVolumeRequest) {
			manifest("namespace: payments,", "namespace: payments, annotations: {kubernetes.io/config.mirror: x},")(n, p)
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, demandsTokens)
			n.write("objects.yaml", objects+driverObject(tokensInSecrets))
			p := apiPod()
			if name != "keys cannot be read" {
				p.tokens = n.issuer.of(p, "vault")
			} else {
				n.policy.engine.Store(policiestest.Engine(t, grants)) // so that keys are first needed when they are gone
			}
			n.mustPublish(p)
			before := n.look(p)
			// Twice, ten seconds and more apart, as a denial would need it.
			for range 2 {
				n.clock.advance(2 * refreshInterval)
				p.tokens = n.issuer.of(p, "vault")
				req := n.request(p)
				change(n, &p, req)
				if _, err := n.csi.NodePublishVolume(t.Context(), req); err != nil {
					t.Errorf("republish = %v, want nil", err)
				}
				n.expectSame(p, before)
			}
			if n.failures(p) == 0 {
				t.Error("no republish failed: the volume was not due")
			}
		})
	}
}

// A pod may run for hours after its deletion: what is mounted goes on being
// rotated.
func TestAPodOnItsWayOutIsKeptFresh(t *testing.T) {
	n := newNode(t)
	p := apiPod()
	n.mustPublish(p)
	beingDeleted(n, &p)
	n.clock.advance(2 * refreshInterval)
	calls := len(n.provider.Calls())
	n.mustPublish(p)
	if got := len(n.provider.Calls()); got != calls+1 || n.failures(p) != 0 {
		t.Errorf("%d calls after %d, %d failures, want the content fetched again", got, calls, n.failures(p))
	}
	if diff := cmp.Diff(secretFiles(), n.content(p)); diff != "" {
		t.Errorf("content (-want +got):\n%s", diff)
	}
}

// Operators are told why a token is not verified, and nothing of it.
func TestUnverifiedTokensAreLogged(t *testing.T) {
	n := newNode(t)
	p := apiPod()
	p.tokens = map[string]string{"vault": forged(n.issuer.token(p, "vault", nil))}
	n.mustPublish(p)
	log := n.stderr.String()
	for _, want := range []string{"service account token not verified", "audience=vault", "has a signature that is not the cluster's"} {
		if !strings.Contains(log, want) {
			t.Errorf("log = %s, want %q in it", log, want)
		}
	}
	if strings.Contains(log, strings.Split(p.tokens["vault"], ".")[1]) {
		t.Error("the log holds part of a token")
	}
}

// Of mounted volumes each has its unverified token at every refresh: one line a
// minute says so.
func TestUnverifiedTokensOfRefreshesAreLoggedOnceAMinute(t *testing.T) {
	n := newNode(t)
	first, second := apiPod(), secondPod()
	n.add(second)
	for _, p := range []*pod{&first, &second} {
		p.tokens = map[string]string{"vault": forged(n.issuer.token(*p, "vault", nil))}
		n.mustPublish(*p)
	}
	lines := func() int { return strings.Count(n.stderr.String(), "service account token not verified") }
	if got := lines(); got != 2 {
		t.Fatalf("%d lines for two mounts, want 2", got)
	}
	for round := range 3 {
		n.clock.advance(2 * refreshInterval)
		calls := len(n.provider.Calls())
		n.mustPublish(first)
		n.mustPublish(second)
		if got := len(n.provider.Calls()) - calls; got != 2 {
			t.Fatalf("%d refreshes in round %d, want 2", got, round)
		}
		if got, want := lines(), 3+round; got != want {
			t.Errorf("%d lines after round %d, want %d", got, round, want)
		}
	}
}
