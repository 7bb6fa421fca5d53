//go:build integration

package admissionpolicy_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-csi/portcullis/doctor/refusals"
	"github.com/portcullis-csi/portcullis/test/cluster/clustertest"
)

// settings are those of the chart as it is rendered here.
func settings() refusals.Settings {
	return refusals.Settings{
		Driver: driver, KubeletRoot: "/var/lib/kubelet", StateDir: "/var/lib/portcullis",
		SocketDirs: []string{"/var/run/secrets-store-csi-providers", "/etc/kubernetes/secrets-store-csi-providers"},
		Namespace:  release, ServiceAccounts: []string{account, "portcullis-provider-local"}, ExemptNamespaces: []string{"agents"},
	}
}

// reaches is whether each of these paths is known to reach something.
func reaches() map[string]bool {
	return map[string]bool{
		"/": true, "//": true, "///": true, "/.": true, ".": true, "./": true, "/./.": true,
		"/proc": true, "/proc/": true, "//proc": true, "/./proc": true, "/proc/.": true, "/proc/1/root": true, "proc": true, "/proc/sys/net": true,
		"/proc2": false, "/pro": false, "/procfs": false, "/mnt/proc": false, "/PROC": false,
		"/var": true, "/var/": true, "var": true, "/var/lib": true, "/var/lib/kubelet": true, "/var//lib/./kubelet/": true, "/var/lib/kubelet/.": true,
		"/var/lib/kubelet/pods": true, "/var/lib/kubelet/pods/": true, "/var/lib/kubelet/pods/1/volumes/kubernetes.io~csi": true,
		"/var/lib/kubelet/pods2": false, "/var/lib/kubelet/pod": false, "/var/lib/kubelet/device-plugins": false, "/var/lib/kubelet2": false,
		"/var/lib/kubelet/plugins": true, "/var/lib/kubelet/plugins/csi-secrets-store": true, "/var/lib/kubelet/plugins/csi-secrets-store/csi.sock": true,
		"/var/lib/kubelet/plugins/ebs.csi.aws.com": false, "/var/lib/kubelet/plugins/csi-secrets-store-2": false,
		"/var/lib/kubelet/plugins_registry": true, "/var/lib/kubelet/plugins_registry/x-reg.sock": true, "/var/lib/kubelet/pod-resources": false,
		"/var/lib/portcullis": true, "/var/lib/portcullis/": true, "/var/lib/portcullis/audit/node.key": true, "/var/lib/portcullis-provider": false, "/var/lib/port": false,
		"/run": true, "/run/": true, "/var/run": true, "/var/./run": true, "/run/secrets-store-csi-providers": true, "/var/run/secrets-store-csi-providers": true,
		"/var/run//secrets-store-csi-providers/vault.sock": true, "/run/secrets-store-csi-providers/vault.sock": true, "/run/containerd/containerd.sock": false,
		"/var/run/secrets-store": false, "/run/secrets": false,
		"/etc": true, "/etc/kubernetes": true, "/etc/kubernetes/secrets-store-csi-providers": true, "/etc/kubernetes/manifests": false, "/etc/ssl": false, "/etc/kube": false,
		"/opt": false, "/var/log": false, "/var/log/pods": false, "/dev": false, "/sys": false, "/mnt": false, "/...": false, "/var/lib/..data": false, "/a b": false, "/proc\n": false,
		"/ä/ö": false, "/proc/ä": true, "/'": false, `/"`: false, `/\`: false, "/$(proc)": false, "/{}": false, "/%2fproc": false, "/\tproc": false,
	}
}

// TestHostPaths: the policy and its twin in Go judge a path alike, and as it is known
// to be; then some thousand paths that were put together at random.
func TestHostPaths(t *testing.T) {
	w := newWorld(t, clustertest.Options{}, modes("warn"))
	reaching := outcome{warned: []string{refusals.HostPaths}}
	w.settles(t, reaching, w.dry(t, pod("payments", hostPath("/"))))
	judge := func(t *testing.T, path string, want bool) {
		t.Helper()
		p := pod("payments", noVolume, hostPath(path))
		got := w.try(w.dry(t, p))
		if got.other != nil || (len(got.warned) == 1) != want || len(got.denied) > 0 {
			t.Errorf("%q: outcome = %v, want that it reaches: %t", path, got, want)
		}
		if twin := len(refusals.Of(p, settings())) > 0; twin != want {
			t.Errorf("%q: refusals.Of() finds it to reach: %t, want %t", path, twin, want)
		}
		if !strings.ContainsAny(path, "\n\t") {
			tells(t, got)
		}
	}
	for path, want := range reaches() {
		t.Run(path, func(t *testing.T) { judge(t, path, want) })
	}
	t.Run("random", func(t *testing.T) {
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		apart := []string(nil)
		n := 0
		for range 4000 {
			path := randomPath(rand.New(rand.NewPCG(seed, uint64(n))))
			n++
			if len(refusals.Of(pod("payments", noVolume, hostPath(path)), settings())) == 0 {
				apart = append(apart, path)
			} else if n < 700 {
				judge(t, path, true)
			}
		}
		if len(apart) < 500 {
			t.Errorf("%d of 4000 paths reach nothing, want at least 500", len(apart))
		}
		// One pod has many of those that reach nothing: if one did, the pod would.
		for chunk := range slices.Chunk(apart, 50) {
			if got := w.try(w.dry(t, pod("payments", noVolume, hostPath(chunk...)))); !got.matches(outcome{}) {
				t.Errorf("outcome = %v, want none; among %q", got, chunk)
			}
		}
	})
	t.Run("many volumes", func(t *testing.T) { testManyVolumes(t, w) })
}

// randomPath puts elements together that are near to what is protected.
func randomPath(r *rand.Rand) string {
	elements := []string{
		"var", "lib", "kubelet", "pods", "plugins", "csi-secrets-store", "plugins_registry", "portcullis", "run", "etc", "kubernetes",
		"secrets-store-csi-providers", "proc", "", ".", "...", "x", "pods2", "var.", "Proc", "ö",
	}
	known := [][]string{{"var", "lib", "kubelet", "pods"}, {"var", "run", "secrets-store-csi-providers"}, {"var", "lib", "portcullis"}, {"proc"}, nil}
	path := append([]string{""}, known[r.IntN(len(known))]...)
	for range r.IntN(5) {
		i := 1 + r.IntN(len(path))
		path = slices.Insert(path, i, elements[r.IntN(len(elements))])
	}
	if len(path) > 2 && r.IntN(3) == 0 {
		path = slices.Delete(path, 1, 2)
	}
	// The API server takes none that is empty.
	return cmp.Or(strings.Join(path, "/")+[]string{"", "/", "/.", "//"}[r.IntN(4)], "/")
}

// testManyVolumes: judging costs the API server time, which it bounds. What a
// cluster has stays far below, and beyond it nothing passes unseen.
func testManyVolumes(t *testing.T, w *world) {
	var paths []string
	for i := range 600 {
		paths = append(paths, fmt.Sprintf("/mnt/disks/%03d/%s", i, strings.Repeat("directory/", 20)))
	}
	containers := func(p *corev1.Pod) {
		for i := range 300 {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: fmt.Sprintf("c-%d", i), Image: "registry.example/api:1"})
		}
	}
	start := time.Now()
	if got := w.try(w.dry(t, pod("payments", hostPath(paths...), containers))); !got.matches(outcome{}) {
		t.Errorf("600 volumes and 300 containers: outcome = %v, want none", got)
	}
	t.Logf("600 volumes and 300 containers: %v", time.Since(start))
	want := outcome{warned: []string{refusals.HostPaths, refusals.Privileged}}
	last := func(p *corev1.Pod) {
		p.Spec.Containers[300].SecurityContext = &corev1.SecurityContext{Privileged: new(true)}
	}
	if got := w.try(w.dry(t, pod("payments", hostPath(append(paths, "/proc")...), containers, last))); !got.matches(want) {
		t.Errorf("with the last of each that objects: outcome = %v, want %v", got, want)
	}
	long := strings.Repeat("d/", 2000)
	var absurd []string
	for i := range 300 {
		absurd = append(absurd, fmt.Sprintf("/mnt/%d/%s", i, long))
	}
	got := w.try(w.dry(t, pod("payments", noVolume, hostPath(append(absurd, "/proc")...))))
	if len(got.by()) != 1 || got.other != nil {
		t.Errorf("paths of a megabyte: outcome = %v, want the policy, by what it found or by what it costs", got)
	}
}

// TestPodsAtRandom: refusals.Of names the policies that object, whatever a pod is
// put together from.
func TestPodsAtRandom(t *testing.T) {
	w := newWorld(t, clustertest.Options{}, modes("warn"))
	for _, namespace := range []string{release, "payments", "agents"} {
		w.CreateServiceAccount(t, namespace, account)
	}
	all := podRows()["everything"]
	w.settles(t, split(all.want, "warn"), w.dry(t, all.pod))
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	changes := []func(*corev1.Pod){
		writable, readOnlyFalse, otherDriver, second, hostPID, privileged, privilegedInit, hostPath("/var/lib"), hostPath("/opt"), as(account),
		func(p *corev1.Pod) { hostPath(randomPath(r))(p) },
	}
	objected := 0
	for range 400 {
		p := pod([]string{release, "payments", "payments", "agents"}[r.IntN(4)])
		for _, i := range r.Perm(len(changes))[:r.IntN(4)] {
			changes[i](p)
		}
		var want []string
		for _, refusal := range refusals.Of(p, settings()) {
			want = append(want, refusal.Policy)
		}
		slices.Sort(want)
		want = slices.Compact(want)
		got := w.try(w.dry(t, p))
		if !slices.Equal(got.by(), want) || got.other != nil {
			t.Errorf("outcome = %v, refusals.Of() = %q, of a pod with %+v", got, want, p.Spec)
		}
		objected += min(1, len(want))
	}
	if objected < 50 || objected > 350 {
		t.Errorf("policies object to %d of 400 pods, want some and not all", objected)
	}
}
