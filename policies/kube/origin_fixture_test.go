package kube_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/kube"
)

// phases are all gates.
func phases() []policies.Phase {
	return []policies.Phase{policies.PhaseAdmission, policies.PhaseMount, policies.PhaseRotate, policies.PhaseSync, policies.PhaseCI}
}

// variants are classes that together fill every field that parameters can: one
// secret "keep" stays, so that copies of it depend on the class alone.
func variants() map[string][2]func(*kube.Facts) {
	acme := func(rest string) func(*kube.Facts) {
		return ofClass(func(s *spcv1.SecretProviderClassSpec) {
			s.Parameters = map[string]string{"objects": "- objectName: keep\n" + rest}
		})
	}
	akeyless := func(gateway string, more ...string) func(*kube.Facts) {
		return ofClass(func(s *spcv1.SecretProviderClassSpec) {
			s.Provider = "akeyless"
			s.Parameters = map[string]string{"akeylessGatewayURL": gateway, "objects": "- {secretPath: /k, fileName: keep}"}
			for _, name := range more {
				s.Parameters[name] = "x"
			}
		})
	}
	both := func(changes ...func(*kube.Facts)) func(*kube.Facts) {
		return func(f *kube.Facts) {
			for _, change := range changes {
				change(f)
			}
		}
	}
	return map[string][2]func(*kube.Facts){
		"objects": {
			acme("- objectName: a\n  objectAlias: b\n  filePermission: \"0440\"\n  ownerUID: 7\n"),
			acme("- objectName: c\n  objectAlias: d\n  filePermission: \"0400\"\n  ownerUID: 8\n"),
		},
		"scoping":    {akeyless("https://a.example"), akeyless("https://b.example", "akeylessAccessKey")},
		"unreadable": {acme("- x\n"), acme("- objectName: a\n  objectType: b\n")},
		"annotation": {both(conjurClass(), annotation(conjurList, "- keep: k")), both(conjurClass(), annotation(conjurList, "- keep: other"))},
		"attributes": {
			both(acme(""), attribute("role", "a")),
			both(acme(""), attribute("other", "b")),
		},
	}
}

func attribute(name, value string) func(*kube.Facts) {
	return func(f *kube.Facts) {
		for i := range f.Pod.Spec.Volumes {
			if c := f.Pod.Spec.Volumes[i].CSI; c != nil {
				c.VolumeAttributes[name] = value
			}
		}
	}
}

// full are facts in which everything is set that BuildInput reads. mark makes
// all of it differ from those of another mark.
func full(mark string, number int64) kube.Facts {
	flag := number%2 == 0
	volume := func(name string) corev1.Volume {
		return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{
			Driver: driverName, ReadOnly: new(true), VolumeAttributes: attributes(),
			NodePublishSecretRef: &corev1.LocalObjectReference{Name: "ref-" + mark},
		}}}
	}
	container := corev1.Container{
		Name: "c-" + mark, Image: "registry.example/" + mark, VolumeMounts: []corev1.VolumeMount{{Name: "secrets-a"}, {Name: "secrets-b"}},
		SecurityContext: &corev1.SecurityContext{
			Privileged: new(flag), AllowPrivilegeEscalation: new(flag), RunAsUser: new(number), RunAsNonRoot: new(flag),
			Capabilities: &corev1.Capabilities{Add: []corev1.Capability{corev1.Capability("CAP_" + mark)}},
		},
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "pod-" + mark, Namespace: "ns-" + mark, Labels: map[string]string{"l": mark},
			OwnerReferences: []metav1.OwnerReference{{Kind: "Kind" + mark, Name: "owner-" + mark, Controller: new(true)}},
		},
		Spec: corev1.PodSpec{
			ServiceAccountName: "sa-" + mark, HostPID: flag, HostIPC: flag, HostNetwork: flag, HostUsers: new(flag), ShareProcessNamespace: new(flag),
			SecurityContext: &corev1.PodSecurityContext{FSGroup: new(int64(2000)), SupplementalGroups: []int64{number}},
			Volumes: []corev1.Volume{volume("secrets-a"), volume("secrets-b"), {Name: "host", VolumeSource: corev1.VolumeSource{
				HostPath: &corev1.HostPathVolumeSource{Path: "/" + mark},
			}}},
		},
	}
	pod.UID = map[string]types{"a": "11111111-1111-4111-8111-111111111111", "b": "22222222-2222-4222-8222-222222222222"}[mark]
	pod.Spec.Containers, pod.Spec.InitContainers = []corev1.Container{container}, []corev1.Container{*container.DeepCopy()}
	if flag { // kind and mountsVolume differ, too
		pod.Spec.Containers, pod.Spec.InitContainers[0].VolumeMounts = nil, nil
	}
	f := kube.Facts{
		Now: now().Add(time.Duration(number) * time.Hour), Cluster: "cluster-" + mark, Node: "node-" + mark, DriverName: driverName, Pod: pod,
		Namespace:      &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"n": mark}}},
		ServiceAccount: &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"s": mark}}},
		Class: &spcv1.SecretProviderClass{
			ObjectMeta: metav1.ObjectMeta{Name: "class-" + mark, UID: types("uid-" + mark), Generation: number},
			Spec: spcv1.SecretProviderClassSpec{
				Provider:      spcProvider("acme" + mark),
				Parameters:    map[string]string{"objects": "- objectName: keep\n"},
				SecretObjects: []*spcv1.SecretObject{{SecretName: "s-" + mark, Type: "T" + mark, Data: []*spcv1.SecretObjectData{{ObjectName: "keep", Key: "k-" + mark}}}},
			},
		},
		VolumeName: "secrets-" + mark, VolumeMountGroup: new(int64(2000)), TokenVerified: new(flag),
		Tokens:    []policies.Token{{Audience: "aud-" + mark, Verified: flag}},
		Requester: &policies.Requester{Username: "user-" + mark, Groups: []string{"group-" + mark}},
	}
	return f
}

// link makes the facts be about one pod again: names that must agree follow it.
func link(f *kube.Facts) {
	f.Namespace.Name, f.Class.Namespace = f.Pod.Namespace, f.Pod.Namespace
	f.ServiceAccount.Name, f.ServiceAccount.Namespace = f.Pod.Spec.ServiceAccountName, f.Pod.Namespace
	attribute("secretProviderClass", f.Class.Name)(f)
}

// at leaves out what a phase lacks.
func at(p policies.Phase, f kube.Facts) kube.Facts {
	f.Phase = p
	if p != policies.PhaseAdmission {
		f.Requester = nil
	}
	if p == policies.PhaseAdmission || p == policies.PhaseCI {
		f.Node, f.VolumeMountGroup, f.TokenVerified, f.Tokens = "", nil, nil, nil
	}
	return f
}

// values returns what the fields of an input hold, by their paths in the schema.
func values(t *testing.T, in policies.Input) map[string][]string {
	t.Helper()
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var root any
	if err := json.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	collect(t, all, "", root, leaves(t))
	return all
}

func collect(t *testing.T, all map[string][]string, path string, v any, leaves map[string]bool) {
	t.Helper()
	if path = strings.TrimPrefix(path, "."); leaves[path] {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		all[path] = append(all[path], string(text))
		return
	}
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			collect(t, all, path+"."+key, v[key], leaves)
		}
	case []any:
		for _, item := range v {
			collect(t, all, path+"[]", item, leaves)
		}
	default:
		t.Fatalf("%q is no field of the schema", path)
	}
}

// leaves are the fields of the schema that hold values.
func leaves(t *testing.T) map[string]bool {
	t.Helper()
	var root schemaNode
	if err := json.Unmarshal(policies.InputSchema(), &root); err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	root.walk("", found)
	return found
}

type schemaNode struct {
	Properties map[string]*schemaNode `json:"properties"`
	Items      *schemaNode            `json:"items"`
}

func (n *schemaNode) walk(path string, found map[string]bool) {
	switch {
	case n.Properties != nil:
		for name, child := range n.Properties {
			child.walk(strings.TrimPrefix(path+"."+name, "."), found)
		}
	case n.Items != nil && n.Items.Properties != nil:
		n.Items.walk(path+"[]", found)
	default:
		found[path] = true
	}
}
