package doctor_test

import (
	"fmt"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/portcullis-csi/portcullis/doctor"
	"github.com/portcullis-csi/portcullis/hardening"
)

const (
	driver  = "secrets-store.csi.k8s.io"
	version = "v0.1.0"
	kind    = ".secrets-store.csi.x-k8s.io"
)

var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func is[T any](v T) doctor.Asked[T] { return doctor.Asked[T]{Value: v} }

// good are facts of a node and a cluster where nothing is wrong.
func good() *doctor.Facts {
	return &doctor.Facts{
		Now: noon, Driver: driver, Version: version, NodeName: "node1", Node: goodNode(), Cluster: goodCluster(),
		Refusals: func(*corev1.Pod) []doctor.Refusal { return nil },
	}
}

func goodNode() *doctor.Node {
	return &doctor.Node{
		Kernel: hardening.Kernel{
			Release: "6.12.1", MountAPI: hardening.AnswerYes, Openat2: hardening.AnswerYes, Fchmodat2: hardening.AnswerYes,
			Noswap: hardening.AnswerYes, Xattr: hardening.AnswerYes, Landlock: 6, Seccomp: hardening.AnswerYes, Probed: true,
		},
		Root: true, OpenFiles: 1 << 20, Cgroup: 2,
		Kubelet:      doctor.Kubelet{Root: "/var/lib/kubelet", RegistryDir: "/var/lib/kubelet/plugins_registry", Shared: is(true)},
		Registration: doctor.Registration{Path: "/reg.sock", Name: driver, Endpoint: "/csi/csi.sock", Type: "CSIPlugin", Versions: []string{"1.0.0"}},
		Plugin:       doctor.Plugin{Path: "/csi/csi.sock", Name: driver, Version: version, Ready: true},
		Ready:        is([]doctor.Condition{{Name: "policy", Mark: '+'}, {Name: "audit log", Mark: '+'}}), ReadyAddr: "127.0.0.1:9809",
		Providers: is([]doctor.Provider{{Name: "vault", Path: "/p/vault.sock", Runtime: "vault-csi 1.5"}}), ProviderDirs: []string{"/p"},
		Bundle: is(&doctor.Bundle{Path: "/policy/bundle.tar.gz", Digest: "sha256:00", Serial: 7, NotAfter: noon.Add(30 * 24 * time.Hour)}),
		Active: is("sha256:00"), Signed: true,
		Log: is([]doctor.Epoch{{Number: 1, Events: 42, Bytes: 3 << 20, From: noon.Add(-time.Hour)}}), StateDir: "/var/lib/portcullis",
		FreeBytes: is(int64(10 << 30)), Volumes: is([]doctor.Volume{{PodUID: "uid-api", Name: "secrets"}}),
	}
}

func goodCluster() *doctor.Cluster {
	none := storagev1.NoneFSGroupPolicy
	return &doctor.Cluster{
		Host: "https://api.example", Version: is("v1.37.2"), Namespace: "kube-system", Account: "secrets-store-csi-driver",
		Nodes: is([]corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "node1"}, Status: corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{KubeletVersion: "v1.37.2"}}}}),
		DriverObject: is(&storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: driver}, Spec: storagev1.CSIDriverSpec{
			PodInfoOnMount: new(true), AttachRequired: new(false), FSGroupPolicy: &none, RequiresRepublish: new(true),
			VolumeLifecycleModes: []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecycleEphemeral},
			TokenRequests:        []storagev1.TokenRequest{{Audience: "portcullis"}}, ServiceAccountTokenInSecrets: new(true),
		}}),
		Definitions: is([]doctor.Definition{
			{Name: "secretproviderclasses" + kind, Served: []string{"v1"}, Established: true, Fields: fields("spec.provider", "spec.parameters", "spec.secretObjects")},
			{Name: "secretproviderclasspodstatuses" + kind, Served: []string{"v1"}, Established: true, Fields: fields("status.mounted", "status.objects", "status.podName", "status.secretProviderClassName", "status.targetPath")},
		}),
		Rights:         is([]doctor.Right{{Verb: "get", Resource: "pods", Needed: true, Allowed: true}, {Verb: "get", Resource: "secrets"}}),
		ServiceAccount: is(&corev1.ServiceAccount{}),
		DaemonSets:     is([]appsv1.DaemonSet{daemonSet("csi-secrets-store", "ghcr.io/portcullis-csi/portcullis-node:0.1.0")}),
		CSINodes:       is([]storagev1.CSINode{{ObjectMeta: metav1.ObjectMeta{Name: "node1"}, Spec: storagev1.CSINodeSpec{Drivers: []storagev1.CSINodeDriver{{Name: driver}}}}}),
		Classes:        is([]doctor.Class{{Namespace: "payments", Name: "db", Provider: "vault"}}),
		Statuses:       is([]doctor.PodStatus{{Namespace: "payments", Name: "api-payments-db", Pod: "api", PodUID: "uid-api"}}),
		Pods:           is([]corev1.Pod{pluginPod(), apiPod()}),
		Policies:       is(policies()), Bindings: is(bindings()),
		Daemons: is([]doctor.Daemon{
			{Name: "csi-secrets-store-x", Node: "node1", Policy: inForce(7)}, {Name: "portcullis-webhook-0", Node: "node1", Webhook: true, Image: "ghcr.io/portcullis-csi/portcullis-webhook:0.1.0", Policy: inForce(7)},
		}),
	}
}

// inForce is a bundle that has been in force for a day.
func inForce(serial int64) *doctor.InForce {
	return &doctor.InForce{Digest: fmt.Sprintf("sha256:%064d", serial), Serial: serial, Origin: "source", Age: 24 * time.Hour, NotAfter: noon.Add(30 * 24 * time.Hour)}
}

func fields(names ...string) map[string]bool {
	set := map[string]bool{}
	for _, n := range names {
		set[n] = true
	}
	return set
}

func daemonSet(name, image string) appsv1.DaemonSet {
	return appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: name, UID: types.UID("uid-" + name)},
		Spec: appsv1.DaemonSetSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
			PriorityClassName: "system-node-critical",
			Containers: []corev1.Container{{
				Name: "secrets-store", Image: image, Args: []string{"--kubelet-registration-path=/var/lib/kubelet/plugins/csi-secrets-store/csi.sock"},
				Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("384Mi")}},
			}},
		}}},
		Status: appsv1.DaemonSetStatus{DesiredNumberScheduled: 1, NumberReady: 1, UpdatedNumberScheduled: 1},
	}
}

func pluginPod() corev1.Pod {
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "csi-secrets-store-x", OwnerReferences: []metav1.OwnerReference{{Kind: "DaemonSet", Name: "csi-secrets-store", UID: "uid-csi-secrets-store"}}},
		Spec:       corev1.PodSpec{NodeName: "node1"},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
	}
}

func apiPod() corev1.Pod {
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "payments", Name: "api", UID: "uid-api", CreationTimestamp: metav1.NewTime(noon.Add(-time.Hour))},
		Spec:       corev1.PodSpec{NodeName: "node1", Volumes: []corev1.Volume{{Name: "secrets", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: driver}}}}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning},
	}
}

var policyNames = []string{"status-of-own-node", "volumes-read-only", "no-persistent-volumes", "privileged", "ephemeral-containers", "host-paths"}

func policies() []admissionv1.ValidatingAdmissionPolicy {
	var list []admissionv1.ValidatingAdmissionPolicy
	for _, n := range policyNames {
		list = append(list, admissionv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: "portcullis-" + n}})
	}
	return list
}

func bindings() []admissionv1.ValidatingAdmissionPolicyBinding {
	var list []admissionv1.ValidatingAdmissionPolicyBinding
	for i, n := range policyNames {
		action := []admissionv1.ValidationAction{admissionv1.Deny}
		if i >= 3 {
			action = []admissionv1.ValidationAction{admissionv1.Warn, admissionv1.Audit}
		}
		list = append(list, admissionv1.ValidatingAdmissionPolicyBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "portcullis-" + n},
			Spec:       admissionv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: "portcullis-" + n, ValidationActions: action},
		})
	}
	return list
}
