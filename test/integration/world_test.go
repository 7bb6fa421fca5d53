//go:build integration

package integration_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/portcullis-csi/portcullis/audit"
	auditlog "github.com/portcullis-csi/portcullis/audit/log"
	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
	"github.com/portcullis-csi/portcullis/test/cluster/clustertest"
	"github.com/portcullis-csi/portcullis/test/plugintest"
)

const (
	driverName = "secrets-store.csi.k8s.io"
	nodeName   = "node1"
	namespace  = "payments"
	account    = "api"
	volume     = "secrets"
	class      = "db"
	audience   = "portcullis"
	fsGroup    = 2000
	files      = "../../deploy/chart/files"
)

const grants = `
- {id: G-1, owner: team, expiry: 2099-12-31, namespaces: [payments], serviceAccounts: [api], provider: local, secrets: ["local://node/db/*"]}
`

// world is a cluster, a node whose kubelet is the test, and a provider.
type world struct {
	t        *testing.T
	dir      string
	cluster  *clustertest.Cluster
	provider *providertest.Provider
	content  *atomic.Value // string: what every secret says
	args     []string
	plugin   *plugintest.Plugin
}

// newWorld makes a world and starts its plugin, with these flags.
func newWorld(t *testing.T, flags ...string) *world {
	t.Helper()
	hardeningtest.NeedRoot(t)
	w := &world{t: t, content: &atomic.Value{}}
	w.dir = shortDir(t)
	w.content.Store("one")
	w.furnish()
	w.cluster = clustertest.Start(t, clustertest.Options{})
	w.cluster.ApplyFiles(t, "../../deploy/chart/crds/*.yaml")
	w.cluster.ApplyFiles(t, files+"/rbac/*.yaml")
	w.cluster.Apply(t, csiDriver(t))
	w.cluster.CreateNamespace(t, namespace, map[string]string{"tier": "prod"})
	w.cluster.CreateServiceAccount(t, namespace, account)
	w.class(class, "db/password")
	kubeconfig := w.cluster.Kubeconfig(t, w.cluster.As(t, "kube-system", "secrets-store-csi-driver"))
	w.args = append([]string{
		"--nodeid=" + nodeName, "--cluster-name=test", "--policy=" + w.path("policy"), "--allow-unsigned-policy",
		"--kubeconfig=" + kubeconfig, "--state-dir=" + w.path("state"), "--kubelet-root=" + w.path("kubelet"),
		"--endpoint=unix://" + w.path("csi.sock"), "--provider-volume=" + w.path("providers"), "--additional-provider-volume-paths=",
		"--metrics-addr=" + plugintest.FreeAddress(t), "--health-addr=" + plugintest.FreeAddress(t),
	}, flags...)
	w.start()
	return w
}

// shortDir makes a directory whose sockets have paths of at most 108 bytes.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "i") //nolint:usetesting // paths of its directories are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// csiDriver is the CSIDriver object that the documents tell people to apply.
func csiDriver(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(files + "/csidriver.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// in is the same world for a subtest.
func (w *world) in(t *testing.T) *world {
	same := *w
	same.t = t
	return &same
}

// start starts the plugin, again after a stop.
func (w *world) start() {
	w.t.Helper()
	w.plugin = plugintest.Start(w.t, plugintest.Config{
		Program: plugintest.Program(w.t, plugintest.Programs(), "portcullis-node", "insecure"), Socket: w.path("csi.sock"), Args: w.args,
	})
	p := w.plugin
	w.t.Cleanup(func() {
		if w.t.Failed() && p == w.plugin {
			w.t.Logf("the plugin wrote\n%s", p.Stderr())
		}
	})
}

func (w *world) path(rel string) string { return filepath.Join(w.dir, rel) }

func (w *world) furnish() {
	w.t.Helper()
	for _, dir := range []string{"kubelet/pods", "state", "providers"} {
		if err := os.MkdirAll(w.path(dir), 0o700); err != nil {
			w.t.Fatal(err)
		}
	}
	w.write("policy/.manifest", `{"revision":"test","roots":["portcullis"],"rego_version":1,"metadata":{"contract":"portcullis/v1","serial":1}}`)
	w.write("policy/portcullis/grants/grants.yaml", grants)
	w.provider = providertest.Start(w.t, providertest.Config{Handler: w.answer, Dir: w.path("providers")})
}

func (w *world) write(rel, text string) {
	w.t.Helper()
	if err := os.MkdirAll(filepath.Dir(w.path(rel)), 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(w.path(rel), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// answer is the provider: every object that is asked for has the same content.
func (w *world) answer(_ context.Context, r *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
	var attributes map[string]string
	if err := json.Unmarshal([]byte(r.GetAttributes()), &attributes); err != nil {
		return nil, status.Error(codes.InvalidArgument, "attributes")
	}
	content, _ := w.content.Load().(string)
	secrets := map[string]string{}
	for line := range strings.Lines(attributes["objects"]) {
		if _, name, ok := strings.Cut(line, "objectName: "); ok {
			secrets[strings.TrimSpace(name)] = content
		}
	}
	reply := providertest.Response(secrets)
	for _, v := range reply.GetObjectVersion() {
		v.Version = "v-" + content
	}
	return reply, nil
}

// class makes a SecretProviderClass of these objects, or changes it.
func (w *world) class(name string, objects ...string) {
	w.t.Helper()
	var list strings.Builder
	for _, o := range objects {
		fmt.Fprintf(&list, "      - objectName: %s\n", o)
	}
	w.cluster.Apply(w.t, fmt.Sprintf(`
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {name: %s, namespace: %s}
spec:
  provider: local
  parameters:
    objects: |
%s`, name, namespace, list.String()))
}

// pod describes a pod on the node, with a volume of the class.
func pod(name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: corev1.PodSpec{
			NodeName: nodeName, ServiceAccountName: account,
			SecurityContext: &corev1.PodSecurityContext{FSGroup: new(int64(fsGroup))},
			Containers:      []corev1.Container{{Name: "main", Image: "registry.example/main:1"}},
			Volumes: []corev1.Volume{{Name: volume, VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{
				Driver: driverName, ReadOnly: new(true), VolumeAttributes: map[string]string{"secretProviderClass": class},
			}}}},
		},
	}
}

// request is the call that kubelet makes for a volume of a pod.
func (w *world) request(p *corev1.Pod, name string) *csi.NodePublishVolumeRequest {
	w.t.Helper()
	return &csi.NodePublishVolumeRequest{
		VolumeId: "csi-" + string(p.UID) + "-" + name, Readonly: true,
		TargetPath: hardeningtest.VolumeDir(w.t, w.path("kubelet"), string(p.UID), name),
		VolumeContext: map[string]string{
			"secretProviderClass": class, "csi.storage.k8s.io/pod.name": p.Name, "csi.storage.k8s.io/pod.namespace": p.Namespace,
			"csi.storage.k8s.io/pod.uid": string(p.UID), "csi.storage.k8s.io/serviceAccount.name": p.Spec.ServiceAccountName, "csi.storage.k8s.io/ephemeral": "true",
		},
		VolumeCapability: &csi.VolumeCapability{
			AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{VolumeMountGroup: fmt.Sprint(fsGroup)}},
			AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
		},
	}
}

// withToken adds the token that kubelet gets for the audience of the CSIDriver
// object.
func (w *world) withToken(req *csi.NodePublishVolumeRequest, p *corev1.Pod) *csi.NodePublishVolumeRequest {
	w.t.Helper()
	tokens, err := json.Marshal(map[string]any{audience: map[string]string{
		"token": w.cluster.BoundToken(w.t, p, audience), "expirationTimestamp": time.Now().Add(time.Hour).UTC().Format(time.RFC3339),
	}})
	if err != nil {
		w.t.Fatal(err)
	}
	req.Secrets = map[string]string{"csi.storage.k8s.io/serviceAccount.tokens": string(tokens)}
	return req
}

// reads returns the content of a file of a mounted volume, "" if there is none.
func reads(req *csi.NodePublishVolumeRequest, file string) string {
	text, err := os.ReadFile(filepath.Join(req.GetTargetPath(), file))
	if err != nil {
		return ""
	}
	return string(text)
}

// refused checks that a publish fails with this code and words, and leaves
// nothing.
func (w *world) refused(req *csi.NodePublishVolumeRequest, code codes.Code, words string) {
	w.t.Helper()
	calls := len(w.provider.Calls())
	err := w.plugin.Publish(req)
	if status.Code(err) != code || !strings.Contains(status.Convert(err).Message(), words) {
		w.t.Errorf("NodePublishVolume() = %v, want %v and %q", err, code, words)
	}
	if got := len(w.provider.Calls()) - calls; got != 0 {
		w.t.Errorf("a refused publish made %d provider calls, want 0", got)
	}
	if entries, err := os.ReadDir(req.GetTargetPath()); err == nil && len(entries) > 0 {
		w.t.Errorf("a refused publish left %d entries in the target, want none", len(entries))
	}
}

// soonRefused checks that a publish is refused like this as soon as the plugin's
// watch has heard of a change that was just made.
func (w *world) soonRefused(req *csi.NodePublishVolumeRequest, code codes.Code, words string) {
	w.t.Helper()
	plugintest.Eventually(w.t, "the publish is refused", func() error {
		err := w.plugin.Publish(req)
		if status.Code(err) == code && strings.Contains(err.Error(), words) {
			return nil
		}
		if unmount := w.plugin.Unpublish(req.GetVolumeId(), req.GetTargetPath()); unmount != nil {
			return unmount
		}
		return fmt.Errorf("publish answered %w, want %v and %q", errors.Join(err, errNotYet), code, words)
	})
}

// mounts checks that a publish works and that the file says what it should.
func (w *world) mounts(req *csi.NodePublishVolumeRequest, file, want string) {
	w.t.Helper()
	if err := w.plugin.Publish(req); err != nil {
		w.t.Fatalf("NodePublishVolume() = %v, want nil", err)
	}
	if got := reads(req, file); got != want {
		w.t.Fatalf("file %s says %q, want %q", file, got, want)
	}
}

// events returns what the log holds so far of one pod.
func (w *world) events(p *corev1.Pod) []audit.Event {
	w.t.Helper()
	var found []audit.Event
	plugintest.Eventually(w.t, "read the audit log", func() error {
		found = nil
		text, err := os.ReadFile(w.path("state/audit/" + auditlog.EpochFile(1)))
		if err != nil {
			return err
		}
		// A copy that was taken while the plugin wrote need not verify.
		copied := w.path("copy.db")
		if err := os.WriteFile(copied, text, 0o600); err != nil {
			return err
		}
		key, err := os.ReadFile(w.path("state/audit/" + auditlog.VKeyFileName))
		if err != nil {
			return err
		}
		_, err = auditlog.Verify(w.t.Context(), auditlog.VerifyConfig{Path: copied, VKey: string(key), Each: func(_ auditlog.Position, leaf []byte) error {
			e, err := audit.Parse(leaf)
			if err == nil && e.Workload != nil && e.Workload.PodUID == string(p.UID) {
				found = append(found, e)
			}
			return err
		}})
		return err
	})
	return found
}
