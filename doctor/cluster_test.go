package doctor_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-csi/portcullis/doctor"
)

func inCluster(change func(*doctor.Cluster)) func(*doctor.Facts) {
	return func(f *doctor.Facts) { change(f.Cluster) }
}

func ofKubelet(v string) func(*doctor.Facts) {
	return inCluster(func(c *doctor.Cluster) { c.Nodes.Value[0].Status.NodeInfo.KubeletVersion = v })
}

func ofDaemonSet(change func(*appsv1.DaemonSet)) func(*doctor.Facts) {
	return inCluster(func(c *doctor.Cluster) { change(&c.DaemonSets.Value[0]) })
}

func ofContainer(change func(*corev1.Container)) func(*doctor.Facts) {
	return ofDaemonSet(func(d *appsv1.DaemonSet) { change(&d.Spec.Template.Spec.Containers[0]) })
}

// pod changes the pod with our volume.
func pod(change func(*corev1.Pod)) func(*doctor.Facts) {
	return inCluster(func(c *doctor.Cluster) { change(&c.Pods.Value[1]) })
}

// event is kubelet's about the pod, which is pending.
func event(message string) func(*doctor.Facts) {
	return inCluster(func(c *doctor.Cluster) {
		c.Pods.Value[1].Status.Phase = corev1.PodPending
		old := corev1.Event{InvolvedObject: corev1.ObjectReference{UID: "uid-api"}, Message: `volume "secrets": long ago`, LastTimestamp: metav1.NewTime(noon.Add(-time.Hour))}
		now := corev1.Event{InvolvedObject: corev1.ObjectReference{UID: "uid-api"}, Message: message, LastTimestamp: metav1.NewTime(noon)}
		c.Events.Value = []corev1.Event{old, now, old}
	})
}

func deleted(ago time.Duration, plugin corev1.ConditionStatus) func(*doctor.Facts) {
	return inCluster(func(c *doctor.Cluster) {
		c.Pods.Value[1].DeletionTimestamp = &metav1.Time{Time: noon.Add(-ago)}
		c.Pods.Value[0].Status.Conditions[0].Status = plugin
	})
}

// webhook is installed, with this caBundle.
func webhook(authority []byte) func(*doctor.Facts) {
	return inCluster(func(c *doctor.Cluster) {
		c.Webhooks.Value = []admissionv1.ValidatingWebhookConfiguration{{
			ObjectMeta: metav1.ObjectMeta{Name: "portcullis"},
			Webhooks:   []admissionv1.ValidatingWebhook{{Name: "pods.portcullis", ClientConfig: admissionv1.WebhookClientConfig{CABundle: authority}}},
		}}
	})
}

// authority is a certificate that is valid from yesterday for a time.
func authority(t *testing.T, from, to time.Duration) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: noon.Add(from), NotAfter: noon.Add(to)}
	der, err := x509.CreateCertificate(rand.Reader, form, form, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func badObjects() []bad {
	return []bad{
		{"1.36", "kubelet.version", ofKubelet("v1.36.1"), doctor.OK, "some patch releases", ""},
		{"1.33", "kubelet.version", ofKubelet("v1.33.4"), doctor.Warn, "node1", "upgrade kubelet"},
		{"unreadable", "kubelet.version", ofKubelet("new"), doctor.Warn, "cannot be read", "kubectl"},
		{"no nodes", "kubelet.version", inCluster(func(c *doctor.Cluster) { c.Nodes.Value = nil }), doctor.Warn, "no nodes", "kubectl"},
		{"nodes forbidden", "kubelet.version", inCluster(func(c *doctor.Cluster) { c.Nodes.Err = doctor.ErrForbidden }), doctor.Warn, "nodes could not be looked at", "administrator"},
		{"no CSIDriver", "csidriver.fields", inCluster(func(c *doctor.Cluster) { c.DriverObject.Value = nil }), doctor.Fail, "not in the cluster", "podInfoOnMount: true"},
		{"no podInfoOnMount", "csidriver.fields", inCluster(func(c *doctor.Cluster) { c.DriverObject.Value.Spec.PodInfoOnMount = nil }), doctor.Fail, "spec.podInfoOnMount", "podInfoOnMount: true"},
		{"attachRequired", "csidriver.fields", inCluster(func(c *doctor.Cluster) { c.DriverObject.Value.Spec.AttachRequired = nil }), doctor.Fail, "spec.attachRequired", "creating"},
		{"no republish", "csidriver.fields", inCluster(func(c *doctor.Cluster) { c.DriverObject.Value.Spec.RequiresRepublish = nil }), doctor.Warn, "spec.requiresRepublish", "true"},
		{"CSIDriver forbidden", "csidriver.fields", inCluster(func(c *doctor.Cluster) { c.DriverObject.Err = doctor.ErrForbidden }), doctor.Warn, "could not", "administrator"},
		{"audience of the API server", "csidriver.audiences", inCluster(func(c *doctor.Cluster) { c.DriverObject.Value.Spec.TokenRequests[0].Audience = "" }), doctor.Warn, "API server", "of its own"},
		{"no audiences", "csidriver.audiences", inCluster(func(c *doctor.Cluster) { c.DriverObject.Value.Spec.TokenRequests = nil }), doctor.NA, "none", ""},
		{"no object for audiences", "csidriver.audiences", inCluster(func(c *doctor.Cluster) { c.DriverObject.Value = nil }), doctor.NA, "no CSIDriver", ""},
		{"no CRD", "crds", inCluster(func(c *doctor.Cluster) { c.Definitions.Value = c.Definitions.Value[1:] }), doctor.Fail, "secretproviderclasses" + kind + " is not installed", "CRDs"},
		{"v1alpha1 only", "crds", inCluster(func(c *doctor.Cluster) { c.Definitions.Value[0].Served = []string{"v1alpha1"} }), doctor.Fail, "v1alpha1", "CRDs"},
		{"CRD not established", "crds", inCluster(func(c *doctor.Cluster) { c.Definitions.Value[0].Established = false }), doctor.Fail, "not established", "describe"},
		{"CRD lacks a field", "crds", inCluster(func(c *doctor.Cluster) { delete(c.Definitions.Value[1].Fields, "status.targetPath") }), doctor.Fail, "status.targetPath", "CRDs"},
		{"CRDs forbidden", "crds", inCluster(func(c *doctor.Cluster) { c.Definitions.Err = doctor.ErrForbidden }), doctor.Warn, "could not", "administrator"},
		{"right missing", "rbac.needed", inCluster(func(c *doctor.Cluster) { c.Rights.Value[0].Allowed = false }), doctor.Fail, "may not: get pods", "role and binding"},
		{"right too many", "rbac.excess", inCluster(func(c *doctor.Cluster) { c.Rights.Value[1].Allowed = true }), doctor.Warn, "get secrets", "auth can-i"},
		{"rights unknown", "rbac.excess", inCluster(func(c *doctor.Cluster) { c.Rights.Err = doctor.ErrForbidden }), doctor.Warn, "could not", "administrator"},
		{"no account", "serviceaccount", inCluster(func(c *doctor.Cluster) { c.ServiceAccount.Value = nil }), doctor.Fail, "kube-system/secrets-store-csi-driver", "--namespace"},
		{"account unknown", "serviceaccount", inCluster(func(c *doctor.Cluster) { c.ServiceAccount.Err = errBroken }), doctor.Warn, "it is broken", "mend it"},
		{"own account", "serviceaccount", inCluster(func(c *doctor.Cluster) { c.ServiceAccount.Err, c.Host = doctor.ErrForbidden, doctor.InCluster }), doctor.NA, "of this pod may not", ""},
		{"not served", "admission.policies", inCluster(func(c *doctor.Cluster) { c.Policies.Err = doctor.ErrNotServed }), doctor.NA, "does not serve", ""},
	}
}

func badDaemonSets() []bad {
	rival := func(c *doctor.Cluster) {
		c.DaemonSets.Value = append(c.DaemonSets.Value, daemonSet("upstream", "registry.k8s.io/csi-secrets-store/driver:v1.6.0"))
	}
	return []bad{
		{"none", "daemonset.ready", inCluster(func(c *doctor.Cluster) { c.DaemonSets.Value = nil }), doctor.Fail, "portcullis-node", "chart"},
		{"unknown", "daemonset.ready", inCluster(func(c *doctor.Cluster) { c.DaemonSets.Err = doctor.ErrForbidden }), doctor.Warn, "could not", "administrator"},
		{"no node", "daemonset.ready", ofDaemonSet(func(d *appsv1.DaemonSet) { d.Status.DesiredNumberScheduled = 0 }), doctor.Fail, "fits no node", "nodeSelector"},
		{"pods missing", "daemonset.ready", ofDaemonSet(func(d *appsv1.DaemonSet) { d.Status.DesiredNumberScheduled = 2 }), doctor.Fail, "1 of 2", "describe"},
		{"pod waits", "daemonset.ready", inCluster(func(c *doctor.Cluster) {
			c.Pods.Value[0].Status = corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "secrets-store", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}}}}
		}), doctor.Fail, "ImagePullBackOff", "logs csi-secrets-store-x"},
		{"pod ended", "daemonset.ready", inCluster(func(c *doctor.Cluster) {
			c.Pods.Value[0].Status = corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "secrets-store", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "OOMKilled", ExitCode: 137}}}}}
		}), doctor.Fail, "OOMKilled, exit code 137", "logs"},
		{"pod not ready", "daemonset.ready", inCluster(func(c *doctor.Cluster) {
			c.Pods.Value[0].Status = corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "secrets-store", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}}
		}), doctor.Fail, "/readyz", "logs"},
		{"development build", "daemonset.build", ofContainer(func(c *corev1.Container) { c.Image = "ghcr.io/portcullis-csi/portcullis-node-insecure:0.1.0" }), doctor.Fail, "nobody signed", "release"},
		{"latest", "daemonset.build", ofContainer(func(c *corev1.Container) { c.Image = "ghcr.io/portcullis-csi/portcullis-node:latest" }), doctor.Warn, "another one tomorrow", "digest"},
		{"no tag, and a port", "daemonset.build", ofContainer(func(c *corev1.Container) { c.Image = "registry:5000/portcullis-node" }), doctor.Warn, "another one tomorrow", "digest"},
		{"digest", "daemonset.build", ofContainer(func(c *corev1.Container) { c.Image = "r/portcullis-node@sha256:00" }), doctor.OK, "sha256", ""},
		{"small limit", "daemonset.memory", ofContainer(func(c *corev1.Container) { c.Resources.Limits[corev1.ResourceMemory] = resource.MustParse("383Mi") }), doctor.Warn, "383.0 MiB", "raise the limit"},
		{"larger budget", "daemonset.memory", ofContainer(func(c *corev1.Container) { c.Args = append(c.Args, "--max-node-bytes=134217729") }), doctor.Warn, "384.0 MiB", "--max-node-bytes"},
		{"unreadable budget", "daemonset.memory", ofContainer(func(c *corev1.Container) { c.Args = append(c.Args, "--max-node-bytes=1Gi") }), doctor.Warn, "cannot be read", "=N"},
		{"no limit", "daemonset.memory", ofContainer(func(c *corev1.Container) { c.Resources.Limits = nil }), doctor.OK, "no limit", ""},
		{"no priority", "daemonset.priority", ofDaemonSet(func(d *appsv1.DaemonSet) { d.Spec.Template.Spec.PriorityClassName = "" }), doctor.Warn, `""`, "system-node-critical"},
		{"priority of none", "daemonset.priority", inCluster(func(c *doctor.Cluster) { c.DaemonSets.Value = nil }), doctor.NA, "no DaemonSet", ""},
		{"upstream's beside ours", "daemonset.rival", inCluster(rival), doctor.Fail, "kube-system/upstream", "MIGRATION.md"},
		{"registrar beside ours", "daemonset.rival", ofDaemonSet(func(d *appsv1.DaemonSet) {
			d.Spec.Template.Spec.Containers = append(d.Spec.Template.Spec.Containers, corev1.Container{Name: "reg", Image: "registry.k8s.io/sig-storage/csi-node-driver-registrar:v2"}, corev1.Container{Name: "reg", Image: "x/node-driver-registrar:v2"})
		}), doctor.Fail, "container reg", "registers itself"},
		{"not registered", "csinode", inCluster(func(c *doctor.Cluster) { c.CSINodes.Value[0].Spec.Drivers[0].Name = "other" }), doctor.Warn, "node1", "kubelet.registration"},
		{"no CSINode", "csinode", inCluster(func(c *doctor.Cluster) { c.CSINodes.Value = nil }), doctor.Warn, "no CSINode", "kubelet"},
	}
}

func badWorkloads(t *testing.T) []bad {
	day := 24 * time.Hour
	return []bad{
		{"denied", "pods.pending", event(`MountVolume.SetUp failed for volume "secrets": denied by policy: PR-010; hint: remove objects`), doctor.Warn, "PR-010", "remove objects"},
		{"not registered", "pods.pending", event(`volume "secrets": driver name x not found in the list of registered CSI drivers`), doctor.Warn, "payments/api on node1", "kubelet.registration"},
		{"plugin away", "pods.pending", event(`volume "secrets": dial unix: connection refused`), doctor.Warn, "connection refused", "start the plugin"},
		{"no object", "pods.pending", event(`volume "secrets": (no CSIDriver object)`), doctor.Warn, "no CSIDriver object", "CSIDriver"},
		{"something else", "pods.pending", event(`volume "secrets": odd`), doctor.Warn, "odd", "OPERATIONS.md"},
		{"of another volume", "pods.pending", event(`volume "data": odd`), doctor.Warn, "no event of its volume", "describe pod api"},
		{"hostile event", "pods.pending", event("volume \"secrets\": \x1b]0;owned\x07"), doctor.Warn, "?]0;owned?", ""},
		{"pods unknown", "pods.pending", inCluster(func(c *doctor.Cluster) { c.Pods.Err = errBroken }), doctor.Warn, "could not", "mend it"},
		{"events unknown", "pods.pending", inCluster(func(c *doctor.Cluster) { c.Events.Err = errBroken }), doctor.Warn, "events could not", "mend it"},
		{"drained in the wrong order", "pods.terminating", deleted(0, corev1.ConditionFalse), doctor.Fail, "payments/api is Terminating on node node1, whose plugin is absent", "within 122 s"},
		{"plugin is there", "pods.terminating", deleted(time.Hour, corev1.ConditionTrue), doctor.Warn, "1h0m0s beyond", "finalizer"},
		{"on its way", "pods.terminating", deleted(time.Second, corev1.ConditionTrue), doctor.OK, "none waits", ""},
		{"terminating, pods unknown", "pods.terminating", inCluster(func(c *doctor.Cluster) { c.Pods.Err = errBroken }), doctor.Warn, "could not", "mend it"},
		{"secretObjects", "classes.secret-objects", inCluster(func(c *doctor.Cluster) { c.Classes.Value[0].SecretObjects = 1 }), doctor.Warn, "payments/db", "read the files"},
		{"persistent", "volumes.persistent", inCluster(func(c *doctor.Cluster) {
			v := corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv1"}}
			v.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: driver}
			c.Volumes.Value = []corev1.PersistentVolume{{}, v}
		}), doctor.Warn, "pv1", "inline"},
		{"orphaned status", "statuses.orphaned", inCluster(func(c *doctor.Cluster) { c.Statuses.Value[0].PodUID = "uid-before" }), doctor.Warn, "api-payments-db", "garbage collector"},
		{"no webhook", "webhook.certificate", inCluster(func(*doctor.Cluster) {}), doctor.NA, "no ValidatingWebhookConfiguration", ""},
		{"good certificate", "webhook.certificate", webhook(authority(t, -day, 90*day)), doctor.OK, "valid until", ""},
		{"old and new certificate", "webhook.certificate", webhook(append(authority(t, -9*day, -day), authority(t, -day, 90*day)...)), doctor.OK, "valid until", ""},
		{"certificate over", "webhook.certificate", webhook(authority(t, -2*day, 0)), doctor.Fail, "ended", "issued anew"},
		{"certificate ends soon", "webhook.certificate", webhook(authority(t, -day, 13*day)), doctor.Warn, "ends 2026-12-09", "issued anew"},
		{"certificate of tomorrow", "webhook.certificate", webhook(authority(t, day, 90*day)), doctor.Fail, "valid yet", "issued anew"},
		{"no certificate", "webhook.certificate", webhook(nil), doctor.Fail, "no certificate", "issued anew"},
		{"broken certificate", "webhook.certificate", webhook(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})), doctor.Fail, "no certificate", "issued anew"},
		{"no policies", "admission.policies", inCluster(func(c *doctor.Cluster) { c.Policies.Value = nil }), doctor.NA, "not installed", ""},
		{"policy missing", "admission.policies", inCluster(func(c *doctor.Cluster) { c.Policies.Value = c.Policies.Value[1:] }), doctor.Warn, "portcullis-status-of-own-node is missing", "anew"},
		{"policy off", "admission.policies", inCluster(func(c *doctor.Cluster) { c.Policies.Value = c.Policies.Value[:5] }), doctor.OK, "portcullis-host-paths is off", ""},
		{"policy without binding", "admission.policies", inCluster(func(c *doctor.Cluster) { c.Bindings.Value = c.Bindings.Value[1:] }), doctor.Warn, "no binding", "anew"},
		{"policy that warns", "admission.policies", inCluster(func(c *doctor.Cluster) {
			c.Bindings.Value[0].Spec.ValidationActions = []admissionv1.ValidationAction{admissionv1.Warn}
		}), doctor.Warn, "does Warn, not Deny", "anew"},
		{"would be refused", "admission.deny-preview", refusals("portcullis-privileged"), doctor.Warn, "would refuse pod payments/api for spec.x: bad", "change it"},
		{"is refused already", "admission.deny-preview", refusals("portcullis-volumes-read-only"), doctor.OK, "none of 2 pods", ""},
		{"rules unknown", "admission.deny-preview", func(f *doctor.Facts) { f.Refusals = nil }, doctor.NA, "this build", ""},
		{"ended pod", "admission.deny-preview", func(f *doctor.Facts) {
			refusals("portcullis-privileged")(f)
			f.Cluster.Pods.Value[1].Status.Phase = corev1.PodFailed
		}, doctor.OK, "none", ""},
	}
}

// refusals has a policy refuse the pod.
func refusals(policy string) func(*doctor.Facts) {
	return func(f *doctor.Facts) {
		f.Refusals = func(p *corev1.Pod) []doctor.Refusal {
			if p.Name != "api" {
				return nil
			}
			return []doctor.Refusal{{Policy: policy, Field: "spec.x", Message: "bad; hint: change it"}}
		}
	}
}

func TestWhatIsWrongWithACluster(t *testing.T) {
	for _, list := range [][]bad{badObjects(), badDaemonSets(), badWorkloads(t)} {
		for _, b := range list {
			t.Run(b.check+" "+b.name, b.try)
		}
	}
}
