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
		{
			name: "1.36", check: "kubelet.version",
			change: ofKubelet("v1.36.1"),
			status: doctor.OK, finding: "some patch releases",
		},
		{
			name: "1.33", check: "kubelet.version",
			change: ofKubelet("v1.33.4"),
			status: doctor.Warn, finding: "node1", hint: "upgrade kubelet",
		},
		{
			name: "unreadable", check: "kubelet.version",
			change: ofKubelet("new"),
			status: doctor.Warn, finding: "cannot be read", hint: "kubectl",
		},
		{
			name: "no nodes", check: "kubelet.version",
			change: inCluster(func(c *doctor.Cluster) { c.Nodes.Value = nil }),
			status: doctor.Warn, finding: "no nodes", hint: "kubectl",
		},
		{
			name: "nodes forbidden", check: "kubelet.version",
			change: inCluster(func(c *doctor.Cluster) { c.Nodes.Err = doctor.ErrForbidden }),
			status: doctor.Warn, finding: "nodes could not be looked at", hint: "administrator",
		},
		{
			name: "no CSIDriver", check: "csidriver.fields",
			change: inCluster(func(c *doctor.Cluster) { c.DriverObject.Value = nil }),
			status: doctor.Fail, finding: "not in the cluster", hint: "podInfoOnMount: true",
		},
		{
			name: "no podInfoOnMount", check: "csidriver.fields",
			change: inCluster(func(c *doctor.Cluster) { c.DriverObject.Value.Spec.PodInfoOnMount = nil }),
			status: doctor.Fail, finding: "spec.podInfoOnMount", hint: "podInfoOnMount: true",
		},
		{
			name: "attachRequired", check: "csidriver.fields",
			change: inCluster(func(c *doctor.Cluster) { c.DriverObject.Value.Spec.AttachRequired = nil }),
			status: doctor.Fail, finding: "spec.attachRequired", hint: "creating",
		},
		{
			name: "no republish", check: "csidriver.fields",
			change: inCluster(func(c *doctor.Cluster) { c.DriverObject.Value.Spec.RequiresRepublish = nil }),
			status: doctor.Warn, finding: "spec.requiresRepublish", hint: "true",
		},
		{
			name: "CSIDriver forbidden", check: "csidriver.fields",
			change: inCluster(func(c *doctor.Cluster) { c.DriverObject.Err = doctor.ErrForbidden }),
			status: doctor.Warn, finding: "could not", hint: "administrator",
		},
		{
			name: "audience of the API server", check: "csidriver.audiences",
			change: inCluster(func(c *doctor.Cluster) { c.DriverObject.Value.Spec.TokenRequests[0].Audience = "" }),
			status: doctor.Warn, finding: "API server", hint: "of its own",
		},
		{
			name: "no audiences", check: "csidriver.audiences",
			change: inCluster(func(c *doctor.Cluster) { c.DriverObject.Value.Spec.TokenRequests = nil }),
			status: doctor.NA, finding: "none",
		},
		{
			name: "no object for audiences", check: "csidriver.audiences",
			change: inCluster(func(c *doctor.Cluster) { c.DriverObject.Value = nil }),
			status: doctor.NA, finding: "no CSIDriver",
		},
		{
			name: "no CRD", check: "crds",
			change: inCluster(func(c *doctor.Cluster) { c.Definitions.Value = c.Definitions.Value[1:] }),
			status: doctor.Fail, finding: "secretproviderclasses" + kind + " is not installed", hint: "CRDs",
		},
		{
			name: "v1alpha1 only", check: "crds",
			change: inCluster(func(c *doctor.Cluster) { c.Definitions.Value[0].Served = []string{"v1alpha1"} }),
			status: doctor.Fail, finding: "v1alpha1", hint: "CRDs",
		},
		{
			name: "CRD not established", check: "crds",
			change: inCluster(func(c *doctor.Cluster) { c.Definitions.Value[0].Established = false }),
			status: doctor.Fail, finding: "not established", hint: "describe",
		},
		{
			name: "CRD lacks a field", check: "crds",
			change: inCluster(func(c *doctor.Cluster) { delete(c.Definitions.Value[1].Fields, "status.targetPath") }),
			status: doctor.Fail, finding: "status.targetPath", hint: "CRDs",
		},
		{
			name: "CRDs forbidden", check: "crds",
			change: inCluster(func(c *doctor.Cluster) { c.Definitions.Err = doctor.ErrForbidden }),
			status: doctor.Warn, finding: "could not", hint: "administrator",
		},
		{
			name: "right missing", check: "rbac.needed",
			change: inCluster(func(c *doctor.Cluster) { c.Rights.Value[0].Allowed = false }),
			status: doctor.Fail, finding: "may not: get pods", hint: "role and binding",
		},
		{
			name: "right too many", check: "rbac.excess",
			change: inCluster(func(c *doctor.Cluster) { c.Rights.Value[1].Allowed = true }),
			status: doctor.Warn, finding: "get secrets", hint: "auth can-i",
		},
		{
			name: "rights unknown", check: "rbac.excess",
			change: inCluster(func(c *doctor.Cluster) { c.Rights.Err = doctor.ErrForbidden }),
			status: doctor.Warn, finding: "could not", hint: "administrator",
		},
		{
			name: "no account", check: "serviceaccount",
			change: inCluster(func(c *doctor.Cluster) { c.ServiceAccount.Value = nil }),
			status: doctor.Fail, finding: "kube-system/secrets-store-csi-driver", hint: "--namespace",
		},
		{
			name: "account unknown", check: "serviceaccount",
			change: inCluster(func(c *doctor.Cluster) { c.ServiceAccount.Err = errBroken }),
			status: doctor.Warn, finding: "it is broken", hint: "mend it",
		},
		{
			name: "own account", check: "serviceaccount",
			change: inCluster(func(c *doctor.Cluster) { c.ServiceAccount.Err, c.Host = doctor.ErrForbidden, doctor.InCluster }),
			status: doctor.NA, finding: "of this pod may not",
		},
		{
			name: "not served", check: "admission.policies",
			change: inCluster(func(c *doctor.Cluster) { c.Policies.Err = doctor.ErrNotServed }),
			status: doctor.NA, finding: "does not serve",
		},
	}
}

func badDaemonSets() []bad {
	rival := func(c *doctor.Cluster) {
		c.DaemonSets.Value = append(c.DaemonSets.Value, daemonSet("upstream", "registry.k8s.io/csi-secrets-store/driver:v1.6.0"))
	}
	return []bad{
		{
			name: "none", check: "daemonset.ready",
			change: inCluster(func(c *doctor.Cluster) { c.DaemonSets.Value = nil }),
			status: doctor.Fail, finding: "portcullis-node", hint: "chart",
		},
		{
			name: "unknown", check: "daemonset.ready",
			change: inCluster(func(c *doctor.Cluster) { c.DaemonSets.Err = doctor.ErrForbidden }),
			status: doctor.Warn, finding: "could not", hint: "administrator",
		},
		{
			name: "no node", check: "daemonset.ready",
			change: ofDaemonSet(func(d *appsv1.DaemonSet) { d.Status.DesiredNumberScheduled = 0 }),
			status: doctor.Fail, finding: "fits no node", hint: "nodeSelector",
		},
		{
			name: "pods missing", check: "daemonset.ready",
			change: ofDaemonSet(func(d *appsv1.DaemonSet) { d.Status.DesiredNumberScheduled = 2 }),
			status: doctor.Fail, finding: "1 of 2", hint: "describe",
		},
		{"pod waits", "daemonset.ready", inCluster(func(c *doctor.Cluster) {
			c.Pods.Value[0].Status = corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "secrets-store", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}}}}
		}), doctor.Fail, "ImagePullBackOff", "logs csi-secrets-store-x"},
		{"pod ended", "daemonset.ready", inCluster(func(c *doctor.Cluster) {
			c.Pods.Value[0].Status = corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "secrets-store", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "OOMKilled", ExitCode: 137}}}}}
		}), doctor.Fail, "OOMKilled, exit code 137", "logs"},
		{"pod not ready", "daemonset.ready", inCluster(func(c *doctor.Cluster) {
			c.Pods.Value[0].Status = corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "secrets-store", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}}
		}), doctor.Fail, "/readyz", "logs"},
		{
			name: "development build", check: "daemonset.build",
			change: ofContainer(func(c *corev1.Container) { c.Image = "ghcr.io/portcullis-csi/portcullis-node-insecure:0.1.0" }),
			status: doctor.Fail, finding: "nobody signed", hint: "release",
		},
		{
			name: "latest", check: "daemonset.build",
			change: ofContainer(func(c *corev1.Container) { c.Image = "ghcr.io/portcullis-csi/portcullis-node:latest" }),
			status: doctor.Warn, finding: "another one tomorrow", hint: "digest",
		},
		{
			name: "no tag, and a port", check: "daemonset.build",
			change: ofContainer(func(c *corev1.Container) { c.Image = "registry:5000/portcullis-node" }),
			status: doctor.Warn, finding: "another one tomorrow", hint: "digest",
		},
		{
			name: "digest", check: "daemonset.build",
			change: ofContainer(func(c *corev1.Container) { c.Image = "r/portcullis-node@sha256:00" }),
			status: doctor.OK, finding: "sha256",
		},
		{
			name: "small limit", check: "daemonset.memory",
			change: ofContainer(func(c *corev1.Container) { c.Resources.Limits[corev1.ResourceMemory] = resource.MustParse("383Mi") }),
			status: doctor.Warn, finding: "383.0 MiB", hint: "raise the limit",
		},
		{
			name: "larger budget", check: "daemonset.memory",
			change: ofContainer(func(c *corev1.Container) { c.Args = append(c.Args, "--max-node-bytes=134217729") }),
			status: doctor.Warn, finding: "384.0 MiB", hint: "--max-node-bytes",
		},
		{
			name: "unreadable budget", check: "daemonset.memory",
			change: ofContainer(func(c *corev1.Container) { c.Args = append(c.Args, "--max-node-bytes=1Gi") }),
			status: doctor.Warn, finding: "cannot be read", hint: "=N",
		},
		{
			name: "no limit", check: "daemonset.memory",
			change: ofContainer(func(c *corev1.Container) { c.Resources.Limits = nil }),
			status: doctor.OK, finding: "no limit",
		},
		{
			name: "no priority", check: "daemonset.priority",
			change: ofDaemonSet(func(d *appsv1.DaemonSet) { d.Spec.Template.Spec.PriorityClassName = "" }),
			status: doctor.Warn, finding: `""`, hint: "system-node-critical",
		},
		{
			name: "priority of none", check: "daemonset.priority",
			change: inCluster(func(c *doctor.Cluster) { c.DaemonSets.Value = nil }),
			status: doctor.NA, finding: "no DaemonSet",
		},
		{
			name: "upstream's beside ours", check: "daemonset.rival",
			change: inCluster(rival),
			status: doctor.Fail, finding: "kube-system/upstream", hint: "MIGRATION.md",
		},
		{"registrar beside ours", "daemonset.rival", ofDaemonSet(func(d *appsv1.DaemonSet) {
			d.Spec.Template.Spec.Containers = append(d.Spec.Template.Spec.Containers, corev1.Container{Name: "reg", Image: "registry.k8s.io/sig-storage/csi-node-driver-registrar:v2"}, corev1.Container{Name: "reg", Image: "x/node-driver-registrar:v2"})
		}), doctor.Fail, "container reg", "registers itself"},
		{
			name: "not registered", check: "csinode",
			change: inCluster(func(c *doctor.Cluster) { c.CSINodes.Value[0].Spec.Drivers[0].Name = "other" }),
			status: doctor.Warn, finding: "node1", hint: "kubelet.registration",
		},
		{
			name: "no CSINode", check: "csinode",
			change: inCluster(func(c *doctor.Cluster) { c.CSINodes.Value = nil }),
			status: doctor.Warn, finding: "no CSINode", hint: "kubelet",
		},
	}
}

func badWorkloads(t *testing.T) []bad {
	day := 24 * time.Hour
	return []bad{
		{
			name: "denied", check: "pods.pending",
			change: event(`MountVolume.SetUp failed for volume "secrets": denied by policy: PR-010; hint: remove objects`),
			status: doctor.Warn, finding: "PR-010", hint: "remove objects",
		},
		{
			name: "not registered", check: "pods.pending",
			change: event(`volume "secrets": driver name x not found in the list of registered CSI drivers`),
			status: doctor.Warn, finding: "payments/api on node1", hint: "kubelet.registration",
		},
		{
			name: "plugin away", check: "pods.pending",
			change: event(`volume "secrets": dial unix: connection refused`),
			status: doctor.Warn, finding: "connection refused", hint: "start the plugin",
		},
		{
			name: "no object", check: "pods.pending",
			change: event(`volume "secrets": (no CSIDriver object)`),
			status: doctor.Warn, finding: "no CSIDriver object", hint: "CSIDriver",
		},
		{
			name: "something else", check: "pods.pending",
			change: event(`volume "secrets": odd`),
			status: doctor.Warn, finding: "odd", hint: "OPERATIONS.md",
		},
		{
			name: "of another volume", check: "pods.pending",
			change: event(`volume "data": odd`),
			status: doctor.Warn, finding: "no event of its volume", hint: "describe pod api",
		},
		{
			name: "hostile event", check: "pods.pending",
			change: event("volume \"secrets\": \x1b]0;owned\x07"),
			status: doctor.Warn, finding: "?]0;owned?",
		},
		{
			name: "pods unknown", check: "pods.pending",
			change: inCluster(func(c *doctor.Cluster) { c.Pods.Err = errBroken }),
			status: doctor.Warn, finding: "could not", hint: "mend it",
		},
		{
			name: "events unknown", check: "pods.pending",
			change: inCluster(func(c *doctor.Cluster) { c.Events.Err = errBroken }),
			status: doctor.Warn, finding: "events could not", hint: "mend it",
		},
		{
			name: "drained in the wrong order", check: "pods.terminating",
			change: deleted(0, corev1.ConditionFalse),
			status: doctor.Fail, finding: "payments/api is Terminating on node node1, whose plugin is absent", hint: "within 122 s",
		},
		{
			name: "plugin is there", check: "pods.terminating",
			change: deleted(time.Hour, corev1.ConditionTrue),
			status: doctor.Warn, finding: "1h0m0s beyond", hint: "finalizer",
		},
		{
			name: "on its way", check: "pods.terminating",
			change: deleted(time.Second, corev1.ConditionTrue),
			status: doctor.OK, finding: "none waits",
		},
		{
			name: "terminating, pods unknown", check: "pods.terminating",
			change: inCluster(func(c *doctor.Cluster) { c.Pods.Err = errBroken }),
			status: doctor.Warn, finding: "could not", hint: "mend it",
		},
		{
			name: "secretObjects", check: "classes.secret-objects",
			change: inCluster(func(c *doctor.Cluster) { c.Classes.Value[0].SecretObjects = 1 }),
			status: doctor.Warn, finding: "payments/db", hint: "read the files",
		},
		{"persistent", "volumes.persistent", inCluster(func(c *doctor.Cluster) {
			v := corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv1"}}
			v.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: driver}
			c.Volumes.Value = []corev1.PersistentVolume{{}, v}
		}), doctor.Warn, "pv1", "inline"},
		{
			name: "orphaned status", check: "statuses.orphaned",
			change: inCluster(func(c *doctor.Cluster) { c.Statuses.Value[0].PodUID = "uid-before" }),
			status: doctor.Warn, finding: "api-payments-db", hint: "garbage collector",
		},
		{
			name: "no webhook", check: "webhook.certificate",
			change: inCluster(func(*doctor.Cluster) {}),
			status: doctor.NA, finding: "no ValidatingWebhookConfiguration",
		},
		{
			name: "good certificate", check: "webhook.certificate",
			change: webhook(authority(t, -day, 90*day)),
			status: doctor.OK, finding: "valid until",
		},
		{
			name: "old and new certificate", check: "webhook.certificate",
			change: webhook(append(authority(t, -9*day, -day), authority(t, -day, 90*day)...)),
			status: doctor.OK, finding: "valid until",
		},
		{
			name: "certificate over", check: "webhook.certificate",
			change: webhook(authority(t, -2*day, 0)),
			status: doctor.Fail, finding: "ended", hint: "issued anew",
		},
		{
			name: "certificate ends soon", check: "webhook.certificate",
			change: webhook(authority(t, -day, 13*day)),
			status: doctor.Warn, finding: "ends 2026-12-09", hint: "issued anew",
		},
		{
			name: "certificate of tomorrow", check: "webhook.certificate",
			change: webhook(authority(t, day, 90*day)),
			status: doctor.Fail, finding: "valid yet", hint: "issued anew",
		},
		{
			name: "no certificate", check: "webhook.certificate",
			change: webhook(nil),
			status: doctor.Fail, finding: "no certificate", hint: "issued anew",
		},
		{
			name: "broken certificate", check: "webhook.certificate",
			change: webhook(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})),
			status: doctor.Fail, finding: "no certificate", hint: "issued anew",
		},
		{
			name: "no policies", check: "admission.policies",
			change: inCluster(func(c *doctor.Cluster) { c.Policies.Value = nil }),
			status: doctor.NA, finding: "not installed",
		},
		{
			name: "policy missing", check: "admission.policies",
			change: inCluster(func(c *doctor.Cluster) { c.Policies.Value = c.Policies.Value[1:] }),
			status: doctor.Warn, finding: "portcullis-status-of-own-node is missing", hint: "anew",
		},
		{
			name: "policy off", check: "admission.policies",
			change: inCluster(func(c *doctor.Cluster) { c.Policies.Value = c.Policies.Value[:5] }),
			status: doctor.OK, finding: "portcullis-host-paths is off",
		},
		{
			name: "policy without binding", check: "admission.policies",
			change: inCluster(func(c *doctor.Cluster) { c.Bindings.Value = c.Bindings.Value[1:] }),
			status: doctor.Warn, finding: "no binding", hint: "anew",
		},
		{"policy that warns", "admission.policies", inCluster(func(c *doctor.Cluster) {
			c.Bindings.Value[0].Spec.ValidationActions = []admissionv1.ValidationAction{admissionv1.Warn}
		}), doctor.Warn, "does Warn, not Deny", "anew"},
		{"floor that anybody may lower", "admission.policies", inCluster(func(c *doctor.Cluster) {
			c.Policies.Value = append(c.Policies.Value, admissionv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: "portcullis-policy-floor"}})
			c.Bindings.Value = append(c.Bindings.Value, admissionv1.ValidatingAdmissionPolicyBinding{Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
				PolicyName: "portcullis-policy-floor", ValidationActions: []admissionv1.ValidationAction{admissionv1.Audit},
			}})
		}), doctor.Warn, "the binding of portcullis-policy-floor does Audit, not Deny", "anew"},
		{
			name: "would be refused", check: "admission.deny-preview",
			change: refusals("portcullis-privileged"),
			status: doctor.Warn, finding: "would refuse pod payments/api for spec.x: bad", hint: "change it",
		},
		{
			name: "is refused already", check: "admission.deny-preview",
			change: refusals("portcullis-volumes-read-only"),
			status: doctor.OK, finding: "none of 2 pods",
		},
		{
			name: "rules unknown", check: "admission.deny-preview",
			change: func(f *doctor.Facts) { f.Refusals = nil },
			status: doctor.NA, finding: "this build",
		},
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
