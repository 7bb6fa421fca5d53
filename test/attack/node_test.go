//go:build attack

package attack_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
	"github.com/portcullis-csi/portcullis/test/plugintest"
)

const (
	driverName = "secrets-store.csi.k8s.io"
	nodeName   = "node-1"
	volume     = "secrets"
	namespace  = "payments"
	account    = "api"
	group      = 2000 // fsGroup of the pods
	patience   = plugintest.Patience
)

// node is a machine whose kubelet is the test: a directory for everything, a
// provider in this process, and one plugin at a time.
//
//	n := newNode(t)
//	n.class("db", "password", "tls/key")  // a SecretProviderClass
//	n.serve(map[string]string{...})       // what the provider has
//	api := n.pod("api-0", 1, "db")        // a pod with a volume of that class
//	p := n.start()                        // the plugin, serving
//	err := p.publish(api)
//	p.Kill()                              // the mount stays
type node struct {
	t        testing.TB
	dir      string // a tmpfs
	provider *providertest.Provider
	secrets  atomic.Pointer[map[string]string] // what the provider has
	health   string                            // address of /readyz
	metrics  string                            // address of /metrics
	flags    []string                          // of each plugin that starts
	tags     string                            // that it is built with
	env      []string                          // of its environment
	last     *plugin                           // that was started
}

// newNode makes a node. Its plugins are development builds that accept facts
// from files, with these flags.
func newNode(t testing.TB, flags ...string) *node {
	t.Helper()
	hardeningtest.NeedRoot(t)
	n := &node{t: t, health: plugintest.FreeAddress(t), metrics: plugintest.FreeAddress(t), flags: flags, tags: "insecure"}
	n.serve(nil)
	n.makeDir()
	for _, dir := range []string{"kubelet/pods", "state", "manifests", "providers"} {
		if err := os.MkdirAll(n.path(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	n.write("policy/.manifest", `{"revision":"test","roots":["portcullis"],"rego_version":1,"metadata":{"contract":"portcullis/v1","serial":1}}`)
	n.write("policy/portcullis/grants/grants.yaml", fmt.Sprintf(
		"- {id: G-1, owner: team, expiry: 2099-12-31, namespaces: [%s], serviceAccounts: [%s], provider: local, secrets: [\"local://node/*\"]}\n", namespace, account))
	n.write("manifests/objects.yaml", fmt.Sprintf(
		"{apiVersion: v1, kind: Namespace, metadata: {name: %[1]s}}\n---\n{apiVersion: v1, kind: ServiceAccount, metadata: {name: %[2]s, namespace: %[1]s}}\n", namespace, account))
	n.provider = providertest.Start(t, providertest.Config{Handler: n.answer, Dir: n.path("providers")})
	return n
}

// makeDir makes the directory of everything. Its path is short, since those of
// sockets must be, and it is a tmpfs: what kill -9 does to a file does not
// depend on how long fsync takes.
func (n *node) makeDir() {
	n.t.Helper()
	var err error
	if n.dir, err = os.MkdirTemp("", "n"); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = os.Remove(n.dir) })
	if err := unix.Mount("node", n.dir, "tmpfs", 0, "mode=0700,size=256m"); err != nil {
		n.t.Fatalf("mount tmpfs: %v", err)
	}
	n.t.Cleanup(func() { _ = unix.Unmount(n.dir, unix.MNT_DETACH) })
}

func (n *node) path(rel string) string { return filepath.Join(n.dir, rel) }

func (n *node) write(rel, text string) {
	n.t.Helper()
	if err := os.MkdirAll(filepath.Dir(n.path(rel)), 0o700); err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(n.path(rel), []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) read(rel string) []byte {
	n.t.Helper()
	b, err := os.ReadFile(n.path(rel))
	if err != nil {
		n.t.Fatal(err)
	}
	return b
}

// serve sets what the provider has, by path of the file; nil makes it refuse.
func (n *node) serve(secrets map[string]string) { n.secrets.Store(&secrets) }

// answer is the provider: it returns everything that it has, with a version of
// its own for each content.
func (n *node) answer(context.Context, *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
	secrets := *n.secrets.Load()
	if secrets == nil {
		return nil, status.Error(codes.PermissionDenied, "sealed") // Unavailable would be tried again
	}
	r := providertest.Response(secrets)
	for _, v := range r.GetObjectVersion() {
		v.Version = versionOf(secrets[v.GetId()])
	}
	return r, nil
}

func versionOf(content string) string { return fmt.Sprintf("v%x", sha256.Sum256([]byte(content)))[:9] }

// class makes a SecretProviderClass of these objects, or changes it.
func (n *node) class(name string, objects ...string) {
	n.t.Helper()
	var list strings.Builder
	for _, o := range objects {
		fmt.Fprintf(&list, "      - objectName: %s\n", o)
	}
	n.write("manifests/class-"+name+".yaml", fmt.Sprintf(`apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {name: %s, namespace: %s}
spec:
  provider: local
  parameters:
    objects: |
%s`, name, namespace, list.String()))
}

// pod is a pod with one volume.
type pod struct{ name, uid, class, target string }

// pod makes a pod, as the API server and kubelet would before the first call.
// The file of an earlier pod with that name is replaced.
func (n *node) pod(name string, number int, class string) pod {
	n.t.Helper()
	p := pod{name: name, uid: fmt.Sprintf("00000000-0000-4000-8000-%012d", number), class: class}
	n.write("manifests/pod-"+name+".yaml", fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s, uid: %s}
spec:
  nodeName: %s
  serviceAccountName: %s
  securityContext: {fsGroup: %d}
  containers: [{name: main, image: registry.example/main:1}]
  volumes: [{name: %s, csi: {driver: %s, readOnly: true, volumeAttributes: {secretProviderClass: %s}}}]
`, name, namespace, p.uid, nodeName, account, group, volume, driverName, class))
	p.target = hardeningtest.VolumeDir(n.t, n.path("kubelet"), p.uid, volume)
	return p
}

// request is the call that kubelet makes for a pod.
func (p pod) request() *csi.NodePublishVolumeRequest {
	return &csi.NodePublishVolumeRequest{
		VolumeId: "csi-" + p.uid, TargetPath: p.target, Readonly: true,
		VolumeContext: map[string]string{
			"secretProviderClass": p.class, "csi.storage.k8s.io/pod.name": p.name, "csi.storage.k8s.io/pod.namespace": namespace,
			"csi.storage.k8s.io/pod.uid": p.uid, "csi.storage.k8s.io/serviceAccount.name": account, "csi.storage.k8s.io/ephemeral": "true",
		},
		VolumeCapability: &csi.VolumeCapability{
			AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{VolumeMountGroup: fmt.Sprint(group)}},
			AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
		},
	}
}

// ready asks /readyz, and returns the status and the text.
func (n *node) ready() (status int, text string) {
	n.t.Helper()
	return n.get(n.health, "/readyz")
}

func (n *node) get(address, path string) (status int, text string) {
	n.t.Helper()
	client := http.Client{Timeout: patience}
	resp, err := client.Get("http://" + address + path) //nolint:noctx // the client has a timeout
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// mounts returns the mount points of the driver's volumes on this node: those
// of its own source in the mount table, wherever they are.
func (n *node) mounts() []string {
	n.t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		n.t.Fatal(err)
	}
	var points []string
	for line := range strings.Lines(string(text)) {
		fields, rest, _ := strings.Cut(line, " - ")
		f := strings.Fields(fields)
		if len(f) > 4 && strings.HasPrefix(f[4], n.dir+"/") && strings.Contains(rest, " "+hardening.Marker+" ") {
			points = append(points, f[4])
		}
	}
	return points
}
