//go:build integration

package integration_test

import (
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/portcullis-csi/portcullis/test/plugintest"
)

const tokensKey = "csi.storage.k8s.io/serviceAccount.tokens"

// TestTokensAreVerified: what kubelet hands over is checked against the keys of
// the cluster, and policy sees the result.
func TestTokensAreVerified(t *testing.T) {
	w := newWorld(t)
	w.write("policy/portcullis/checks/verified/verified.rego", `# METADATA
# title: Verified token
# schemas:
#   - input: schema.input
package portcullis.checks.verified

deny contains finding if {
	input.subject.tokenVerified == false
	finding := {"id": "PR-900", "severity": "high", "message": "no token confirms the pod"}
}
`)
	w.plugin.Stop()
	w.start()

	t.Run("verified", func(t *testing.T) {
		w := w.in(t)
		p := w.cluster.CreatePod(t, pod("verified"))
		w.mounts(w.withToken(w.request(p, volume), p), "db/password", "one")
		calls := w.provider.Calls()
		var attributes map[string]string
		if err := json.Unmarshal([]byte(calls[len(calls)-1].GetAttributes()), &attributes); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(attributes[tokensKey], `"`+audience+`"`) {
			t.Error("the provider got no token for its audience")
		}
	})
	t.Run("without a token", func(t *testing.T) {
		w := w.in(t)
		p := w.cluster.CreatePod(t, pod("tokenless"))
		w.refused(w.request(p, volume), codes.PermissionDenied, "PR-900")
	})
	t.Run("of another pod", func(t *testing.T) {
		w := w.in(t)
		victim, thief := w.cluster.CreatePod(t, pod("victim")), w.cluster.CreatePod(t, pod("thief"))
		w.refused(w.withToken(w.request(thief, volume), victim), codes.PermissionDenied, "identity not confirmed")
	})
	t.Run("forged", func(t *testing.T) {
		w := w.in(t)
		p := w.cluster.CreatePod(t, pod("forged"))
		req := w.withToken(w.request(p, volume), p)
		req.Secrets[tokensKey] = tampered(t, req.GetSecrets()[tokensKey])
		w.refused(req, codes.PermissionDenied, "PR-900")
	})
	t.Run("in the volume context", func(t *testing.T) {
		w := w.in(t)
		p := w.cluster.CreatePod(t, pod("context"))
		req := w.withToken(w.request(p, volume), p)
		// With serviceAccountTokenInSecrets only a pod's author can have put it there.
		req.VolumeContext[tokensKey], req.Secrets = req.GetSecrets()[tokensKey], nil
		if err := w.plugin.Publish(req); err == nil {
			t.Error("NodePublishVolume(token in the volume context) = nil, want it refused")
		}
	})
	t.Run("after the keys were rotated", func(t *testing.T) {
		w := w.in(t)
		if err := w.cluster.NewServiceAccountKey("next"); err != nil {
			t.Fatal(err)
		}
		w.cluster.StopAPIServer()
		w.cluster.Restart(t, "--service-account-signing-key-file="+w.cluster.Path("next.key"),
			"--service-account-key-file="+w.cluster.Path("next.pub"), "--service-account-key-file="+w.cluster.Path("sa.pub"))
		p := w.cluster.CreatePod(t, pod("rotated"))
		req := w.withToken(w.request(p, volume), p)
		plugintest.Eventually(t, "a token of the new key is verified", func() error { return w.plugin.Publish(req) })
	})
}

// tampered changes one character of a token's signature.
func tampered(t *testing.T, tokens string) string {
	t.Helper()
	var all map[string]map[string]string
	if err := json.Unmarshal([]byte(tokens), &all); err != nil {
		t.Fatal(err)
	}
	token := all[audience]["token"]
	at := strings.LastIndexByte(token, '.') + 10
	other := byte('A')
	if token[at] == other {
		other = 'B'
	}
	all[audience]["token"] = token[:at] + string(other) + token[at+1:]
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestCSIDriverWithoutPodInfo: without podInfoOnMount a pod's author could claim
// to be anybody, so nothing is granted; what is mounted stays.
func TestCSIDriverWithoutPodInfo(t *testing.T) {
	w := newWorld(t, "--enable-secret-rotation", "--rotation-poll-interval=1s")
	held := w.request(w.cluster.CreatePod(t, pod("mounted")), volume)
	w.mounts(held, "db/password", "one")
	w.cluster.Apply(t, strings.ReplaceAll(csiDriver(t), "podInfoOnMount: true", "podInfoOnMount: false"))
	wanted := w.request(w.cluster.CreatePod(t, pod("waiting")), volume)
	plugintest.Eventually(t, "nothing is granted", func() error {
		err := w.plugin.Publish(wanted)
		if status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), "podInfoOnMount") {
			return nil
		}
		if unmount := w.plugin.Unpublish(wanted.GetVolumeId(), wanted.GetTargetPath()); unmount != nil {
			return unmount
		}
		return errNotYet
	})
	if err := w.plugin.Publish(held); err != nil || reads(held, "db/password") != "one" {
		t.Errorf("republish = %v, file says %q, want OK and the content", err, reads(held, "db/password"))
	}
	w.cluster.Apply(t, csiDriver(t))
	plugintest.Eventually(t, "granting goes on", func() error { return w.plugin.Publish(wanted) })
}
