//go:build e2e

package e2e_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/portcullis-csi/portcullis/doctor"
)

// trouble is something that is wrong with a node or a cluster, and what doctor
// has to say of it.
type trouble struct {
	name string
	make func(w *world, p *corev1.Pod) (mend func()) // p has a volume
	want []doctor.Result                             // parts of the texts
}

// kubectlUndone breaks with one kubectl command, and mends with another.
func kubectlUndone(breaks, mends []string) func(*world, *corev1.Pod) func() {
	return func(w *world, _ *corev1.Pod) func() {
		w.kubectl(breaks...)
		return func() { w.kubectl(mends...) }
	}
}

// applied breaks by making an object, and mends by deleting it.
func applied(object string) func(*world, *corev1.Pod) func() {
	return func(w *world, _ *corev1.Pod) func() {
		w.apply(object)
		return func() { w.must(object, "kubectl", "delete", "-f", "-") }
	}
}

const (
	providerSocket = "/run/secrets-store-csi-providers/local.sock"
	statusesCRD    = "secretproviderclasspodstatuses.secrets-store.csi.x-k8s.io"
)

// patched breaks with one JSON patch, and mends with another.
func patched(object, broken, whole string) func(*world, *corev1.Pod) func() {
	patch := []string{"patch", object, "-n", system, "--type=json", "-p"}
	return kubectlUndone(append(slices.Clone(patch), broken), append(slices.Clone(patch), whole))
}

// objectTroubles are about what the chart made in the cluster.
func objectTroubles() []trouble {
	return []trouble{
		{
			"pods are not named to the driver",
			patched("csidriver/"+driverName, `[{"op":"replace","path":"/spec/podInfoOnMount","value":false}]`, `[{"op":"replace","path":"/spec/podInfoOnMount","value":true}]`),
			[]doctor.Result{
				{Check: "csidriver.fields", Status: doctor.Fail, Finding: "podInfoOnMount", Hint: "podInfoOnMount: true"},
				{Check: "plugin.ready", Status: doctor.Fail, Finding: "podInfoOnMount", Hint: "podInfoOnMount"},
				{Check: "daemonset.ready", Status: doctor.Fail, Finding: "runs and is not ready"},
			},
		},
		{
			"a definition is missing",
			kubectlUndone([]string{"delete", "crd", statusesCRD}, []string{"apply", "-f", made.chart() + "/crds"}),
			[]doctor.Result{{Check: "crds", Status: doctor.Fail, Finding: statusesCRD + " is not installed", Hint: "apply the CRDs of the chart"}},
		},
		{
			"a right is missing",
			func(w *world, _ *corev1.Pod) func() {
				return w.withoutRights(func(r *rbacv1.PolicyRule) {
					if slices.Contains(r.Resources, "serviceaccounts") {
						r.Verbs = []string{"watch"}
					}
				})
			},
			[]doctor.Result{{Check: "rbac.needed", Status: doctor.Fail, Finding: "get serviceaccounts", Hint: "role and binding of the chart"}},
		},
		{
			"the account has a right too many",
			applied(`apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: too-much}
rules: [{apiGroups: [""], resources: [secrets], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: too-much}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: too-much}
subjects: [{kind: ServiceAccount, name: secrets-store-csi-driver, namespace: kube-system}]
`),
			[]doctor.Result{{Check: "rbac.excess", Status: doctor.Warn, Finding: "get secrets", Hint: "find the binding"}},
		},
	}
}

// neighborTroubles are about what others made beside it.
func neighborTroubles() []trouble {
	return []trouble{
		{
			"there is another driver of the name",
			applied(`apiVersion: apps/v1
kind: DaemonSet
metadata: {name: csi-secrets-store-rival, namespace: default}
spec:
  selector: {matchLabels: {app: rival}}
  template:
    metadata: {labels: {app: rival}}
    spec:
      nodeSelector: {nowhere: "true"}
      containers: [{name: secrets-store, image: "registry.k8s.io/csi-secrets-store/driver:v1.5.0"}]
`),
			[]doctor.Result{{Check: "daemonset.rival", Status: doctor.Fail, Finding: "default/csi-secrets-store-rival", Hint: "MIGRATION.md"}},
		},
		{
			"an old registrar is beside the plugin",
			patched("daemonset/"+daemonSet,
				`[{"op":"replace","path":"/spec/updateStrategy","value":{"type":"OnDelete"}},{"op":"add","path":"/spec/template/spec/containers/-","value":{"name":"registrar","image":"registry.k8s.io/sig-storage/csi-node-driver-registrar:v2.13.0"}}]`,
				`[{"op":"remove","path":"/spec/template/spec/containers/1"},{"op":"replace","path":"/spec/updateStrategy","value":{"type":"RollingUpdate","rollingUpdate":{"maxUnavailable":"10%"}}}]`),
			[]doctor.Result{{Check: "daemonset.rival", Status: doctor.Fail, Finding: "container registrar", Hint: "remove the container"}},
		},
		{
			"an admission policy does not deny",
			patched("validatingadmissionpolicybinding/portcullis-no-persistent-volumes", `[{"op":"replace","path":"/spec/validationActions","value":["Audit"]}]`, `[{"op":"replace","path":"/spec/validationActions","value":["Deny","Audit"]}]`),
			[]doctor.Result{{Check: "admission.policies", Status: doctor.Warn, Finding: "portcullis-no-persistent-volumes does Audit, not Deny", Hint: "install the chart anew"}},
		},
		{
			"a class has secretObjects",
			applied(class("default", "copied", "password") + "  secretObjects: [{secretName: copy, type: Opaque, data: [{objectName: password, key: password}]}]\n"),
			[]doctor.Result{{Check: "classes.secret-objects", Status: doctor.Warn, Finding: "default/copied", Hint: "read the files"}},
		},
		{
			"a pod gets nothing",
			func(w *world, _ *corev1.Pod) func() {
				w.ungranted("waits")
				p := w.create(pod("waits", "app"))
				return func() { w.deleted(p) }
			},
			[]doctor.Result{{Check: "pods.pending", Status: doctor.Warn, Finding: "pod waits/app on node1 waits for its volume"}},
		},
	}
}

// nodeTroubles are about what is on the node.
func nodeTroubles() []trouble {
	return []trouble{
		{
			"a provider lacks its socket",
			func(w *world, _ *corev1.Pod) func() {
				from, to := w.lab.Path(providerSocket), w.lab.Path(providerSocket+".away")
				w.check(os.Rename(from, to))
				return func() { w.check(os.Rename(to, from)) }
			},
			[]doctor.Result{
				{Check: "providers.sockets", Status: doctor.Warn, Finding: "no provider has a socket", Hint: "install the provider"},
				{Check: "providers.wanted", Status: doctor.Warn, Finding: `no socket of provider "local", which classes name: broken/app`, Hint: "install the provider"},
			},
		},
		{
			"the policy cannot be read",
			func(w *world, _ *corev1.Pod) func() {
				bundle := w.dir + "/broken.tar.gz"
				w.writeFile(bundle, "no bundle")
				w.publishPolicy(bundle)
				return func() { w.publishPolicy(w.policy(nil)) }
			},
			[]doctor.Result{
				{Check: "policy.bundle", Status: doctor.Fail, Finding: "the bundle cannot be used"},
				{Check: "policy.active", Status: doctor.OK, Finding: "sha256:"}, // what was in force stays
			},
		},
		{
			"the upstream driver mounted a volume",
			func(w *world, p *corev1.Pod) func() {
				dir := fmt.Sprintf("/var/lib/kubelet/pods/%s/volumes/kubernetes.io~csi/old", p.UID)
				w.must("", "sh", "-c", "mkdir -p "+dir+"/mount && mount -t tmpfs tmpfs "+dir+"/mount && mkdir "+dir+"/mount/..1 && ln -s ..1 "+dir+"/mount/..data")
				return func() { w.must("", "sh", "-c", "umount "+dir+"/mount && rmdir "+dir+"/mount "+dir) }
			},
			[]doctor.Result{{Check: "node.volumes", Status: doctor.Warn, Finding: "volume old of pod", Hint: "restart the pod"}},
		},
		{
			"a provider is not root's",
			func(w *world, _ *corev1.Pod) func() {
				w.check(os.Chown(w.lab.Path(providerSocket), 4711, -1))
				return func() { w.check(os.Chown(w.lab.Path(providerSocket), 0, -1)) }
			},
			[]doctor.Result{{Check: "providers.sockets", Status: doctor.Fail, Finding: "4711", Hint: "--provider-uid"}},
		},
		{
			"the policy has ended",
			func(w *world, _ *corev1.Pod) func() {
				w.publishPolicy(w.policyUntil(time.Now().Add(20 * time.Second))) // there is time to build and sign it
				return func() { w.publishPolicy(w.policy(nil)) }
			},
			[]doctor.Result{{Check: "policy.expiry", Status: doctor.Fail, Finding: "the bundle ended", Hint: "later not_after"}},
		},
	}
}

// noPlugin is a node that was drained in the wrong order.
func noPlugin() trouble {
	return trouble{
		"there is no plugin for a pod that wants to end",
		func(w *world, p *corev1.Pod) func() {
			w.kubectl("patch", "daemonset", "-n", system, daemonSet, "-p", `{"spec":{"template":{"spec":{"nodeSelector":{"nowhere":"true"}}}}}`)
			w.pluginPodIsGone()
			w.kubectl("delete", "pod", "-n", p.Namespace, p.Name, "--wait=false")
			return func() {
				w.kubectl("patch", "daemonset", "-n", system, daemonSet, "--type=json", "-p", `[{"op":"remove","path":"/spec/template/spec/nodeSelector/nowhere"}]`)
				w.pluginRuns()
				w.kubectl("wait", "pod", "-n", p.Namespace, p.Name, "--for=delete", "--timeout=150s")
			}
		},
		[]doctor.Result{
			{Check: "plugin.socket", Status: doctor.Fail, Finding: "nobody serves it", Hint: "start the plugin"},
			{Check: "log.state", Status: doctor.Fail, Finding: stateDir, Hint: "start the plugin"},
			{Check: "pods.terminating", Status: doctor.Fail, Finding: "pod broken/app is Terminating on node node1, whose plugin is absent", Hint: "bring the plugin back on node node1"},
		},
	}
}

// groups are troubles of which each hides no other of its group.
func groups() [][]trouble {
	n := nodeTroubles()
	return [][]trouble{append(objectTroubles(), neighborTroubles()...), n[:3], n[3:], {noPlugin()}}
}

// What is wrong is found under the id that the documents name, with what to do;
// and once it is mended, doctor finds it no more.
func TestDoctorFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "doctor")
	w.installAll()
	p := w.started(pod(w.namespace("broken"), "app"))
	last := w.onNode()
	for _, group := range groups() {
		var mends []func()
		for _, it := range group {
			if err := last.lacks(it.want); err != nil {
				t.Fatalf("doctor finds that %s before it is so: %v", it.name, err)
			}
			mends = append(mends, it.make(w, p))
		}
		began := time.Now()
		for _, it := range group {
			w.eventually(60*time.Second, "doctor finds that "+it.name, func() error {
				if last.holds(it.want) != nil {
					last = w.onNode()
				}
				return last.holds(it.want)
			})
			t.Logf("%v after all of its group: doctor finds that %s", time.Since(began).Round(time.Second), it.name)
		}
		for _, mend := range slices.Backward(mends) {
			mend()
		}
		w.eventually(120*time.Second, "doctor finds none of it", func() error {
			last = w.onNode()
			for _, it := range group {
				if err := last.lacks(it.want); err != nil {
					return err
				}
			}
			return nil
		})
	}
	w.swapIsFound()
}

// onNode is what doctor says on the node, as root and administrator.
func (w *world) onNode() findings {
	w.Helper()
	var more []string
	pods := w.kubectl("get", "pods", "-n", system, "-l", "app=secrets-store-csi-driver", "-o", `jsonpath={range .items[*]}{.metadata.uid} {.status.podIP}{"\n"}{end}`)
	if fields := strings.Fields(pods); len(fields) == 2 {
		more = []string{"--policy=" + policyOnNode(fields[0]), "--health-addr=" + fields[1] + ":9808"}
	}
	return w.doctor(more...)
}

func (f findings) has(want doctor.Result) bool {
	return slices.ContainsFunc(f.of(want.Check), func(r doctor.Result) bool {
		return r.Status == want.Status && strings.Contains(r.Finding, want.Finding) && strings.Contains(r.Hint, want.Hint) && (r.Hint != "" || r.Status == doctor.OK)
	})
}

// holds is an error that names what is not found.
func (f findings) holds(all []doctor.Result) error {
	for _, want := range all {
		if !f.has(want) {
			return fmt.Errorf("it says of %s %+v, want %+v", want.Check, f.of(want.Check), want)
		}
	}
	return nil
}

// lacks is an error that names what is still found.
func (f findings) lacks(all []doctor.Result) error {
	for _, want := range all {
		if want.Status != doctor.OK && f.has(want) {
			return fmt.Errorf("it still says of %s %+v", want.Check, f.of(want.Check))
		}
	}
	return nil
}

// swapIsFound shows doctor a node with a swap area. Where the kernel can keep
// volumes out of it, that is no trouble.
func (w *world) swapIsFound() {
	w.Helper()
	const swaps = "/var/lib/kubelet/e2e-swaps"
	w.writeFile(w.lab.Path(swaps), "Filename\tType\tSize\tUsed\tPriority\n/dev/e2e-swap partition 1048576 0 -2\n")
	status := doctor.Fail
	if slices.ContainsFunc(w.doctor("--only=node").of("kernel.noswap"), func(r doctor.Result) bool { return r.Status == doctor.OK }) {
		status = doctor.OK
	}
	f := w.report("unshare", "--mount", "sh", "-c", `mount --bind `+swaps+` /proc/swaps && exec "$0" "$@"`, made.portcullis, "doctor", "--only=node")
	w.finds(f, "node.swap", status, "/dev/e2e-swap")
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// pluginPodIsGone waits until the node has no plugin.
func (w *world) pluginPodIsGone() {
	w.Helper()
	w.eventually(60*time.Second, "the plugin's pod is gone", func() error {
		if pods := w.kubectl("get", "pods", "-n", system, "-l", "app=secrets-store-csi-driver", "-o", "name"); pods != "" {
			return fmt.Errorf("there is %s", pods)
		}
		return nil
	})
}

// policyUntil is the bundle of the tests with an end.
func (w *world) policyUntil(end time.Time) (bundle string) {
	w.Helper()
	var source string
	w.policy(func(_ *world, dir string) { source = dir })
	bundle = w.dir + "/ends.tar.gz"
	w.built(source, bundle, "--not-after", end.UTC().Format(time.RFC3339), "--force")
	return bundle
}
