//go:build attack

package swap_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/portcullis-csi/portcullis/driver/provider"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// plugin is a built portcullis-node with a directory of its own.
type plugin struct {
	binary string
	dir    string
	flags  []string
	*child
}

// The world of a plugin: one class with one secret, granted to the pods of one
// service account.
const (
	manifestHead = `{apiVersion: v1, kind: Namespace, metadata: {name: payments}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: api, namespace: payments}}
---
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {name: one, namespace: payments}
spec:
  provider: local
  parameters:
    objects: |
      - objectName: secret
`
	podManifest = `---
apiVersion: v1
kind: Pod
metadata: {name: %[1]s, namespace: payments, uid: %[2]s}
spec:
  nodeName: node-1
  serviceAccountName: api
  containers: [{name: main, image: registry.example/main:1}]
  volumes: [{name: secrets, csi: {driver: secrets-store.csi.k8s.io, readOnly: true, volumeAttributes: {secretProviderClass: one}}}]
`
	bundleManifest = `{"revision":"attack","roots":["portcullis"],"rego_version":1,"metadata":{"contract":"portcullis/v1","serial":1}}`
	bundleGrants   = "- id: G-1\n  owner: payments\n  expiry: 2126-12-31\n  namespaces: [payments]\n  serviceAccounts: [api]\n  provider: local\n  secrets: [\"local://node/*\"]\n"
)

// pods of the world, by name.
func pods() map[string]string {
	return map[string]string{
		"early": "11111111-1111-4111-8111-111111111111",
		"late":  "22222222-2222-4222-8222-222222222222",
		"slow":  "33333333-3333-4333-8333-333333333333",
	}
}

func newPlugin(t *testing.T, binary, providers string, flags ...string) *plugin {
	t.Helper()
	p := &plugin{binary: binary, dir: t.TempDir()}
	manifests := manifestHead
	for name, uid := range pods() {
		manifests += fmt.Sprintf(podManifest, name, uid)
		hardeningtest.VolumeDir(t, p.path("kubelet"), uid, "secrets")
	}
	p.put(t, "manifests/all.yaml", manifests)
	p.put(t, "policy/.manifest", bundleManifest)
	p.put(t, "policy/portcullis/grants/payments.yaml", bundleGrants)
	p.flags = append([]string{
		"--endpoint=unix://" + p.path("csi.sock"), "--nodeid=node-1", "--cluster-name=attack", "--kubelet-root=" + p.path("kubelet"),
		"--state-dir=" + p.path("state"), "--provider-volume=" + providers, "--additional-provider-volume-paths=",
		"--policy=" + p.path("policy"), "--allow-unsigned-policy", "--manifests=" + p.path("manifests"), "--metrics-addr=", "--health-addr=",
	}, flags...)
	return p
}

func (p *plugin) path(rel string) string { return filepath.Join(p.dir, rel) }

func (p *plugin) put(t *testing.T, rel, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(p.path(rel)), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.path(rel), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// start runs the plugin as a program child, after what the verbs say was done
// to that.
func (p *plugin) start(t *testing.T, b born, verbs ...string) {
	t.Helper()
	// A socket of a process that was killed is no sign of life.
	if err := os.Remove(p.path("csi.sock")); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	b.attr.Pdeathsig = syscall.SIGKILL // it would not end with its standard input
	p.child = startChild(t, "program", b)
	for _, verb := range verbs {
		p.ask(t, verb)
	}
	p.exec(t, append([]string{p.binary}, p.flags...)...)
}

// serves waits until the plugin has its socket, or has ended.
func (p *plugin) serves(t *testing.T) bool {
	t.Helper()
	deadline := time.After(answerTimeout)
	for {
		if _, err := os.Lstat(p.path("csi.sock")); err == nil {
			return true
		}
		select {
		case <-p.ended:
			return false
		case <-deadline:
			t.Fatalf("the plugin neither serves nor ends:\n%s", p.log())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// node returns a client of the plugin.
func (p *plugin) node(t *testing.T) csi.NodeClient {
	t.Helper()
	if !p.serves(t) {
		t.Fatalf("the plugin ended:\n%s", p.log())
	}
	conn, err := grpc.NewClient("unix://"+p.path("csi.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return csi.NewNodeClient(conn)
}

// publishRequest is what kubelet sends for a pod of the world, with a token.
func (p *plugin) publishRequest(pod, token string) *csi.NodePublishVolumeRequest {
	uid := pods()[pod]
	return &csi.NodePublishVolumeRequest{
		VolumeId: "csi-" + uid, TargetPath: filepath.Join(p.path("kubelet/pods"), uid, "volumes/kubernetes.io~csi/secrets/mount"), Readonly: true,
		VolumeContext: map[string]string{
			"secretProviderClass": "one", "csi.storage.k8s.io/pod.name": pod, "csi.storage.k8s.io/pod.namespace": "payments",
			"csi.storage.k8s.io/pod.uid": uid, "csi.storage.k8s.io/serviceAccount.name": "api", "csi.storage.k8s.io/ephemeral": "true",
		},
		Secrets: map[string]string{provider.TokensKey: fmt.Sprintf(`{"vault":{"token":%q,"expirationTimestamp":"2126-01-01T00:00:00Z"}}`, token)},
		VolumeCapability: &csi.VolumeCapability{
			AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}},
			AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
		},
	}
}

// publish mounts the volume of a pod.
func (p *plugin) publish(t *testing.T, pod, token string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), answerTimeout)
	defer cancel()
	if _, err := p.node(t).NodePublishVolume(ctx, p.publishRequest(pod, token)); err != nil {
		t.Fatalf("NodePublishVolume(%s) = %v, want nil\n%s", pod, err, p.log())
	}
}
