package kube_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/kube"
)

type factsOf = kube.Facts

func spcProvider(s string) spcv1.Provider      { return spcv1.Provider(s) }
func contains(list []string, item string) bool { return slices.Contains(list, item) }

func build(t *testing.T, changes ...func(*kube.Facts)) policies.Input {
	t.Helper()
	in, e, err := kube.BuildInput(facts(changes...))
	if err != nil {
		t.Fatalf("BuildInput(...) = %v, want no error", err)
	}
	if e.Digest() != in.SPC.ParametersSHA256 || e.Provider() != in.SPC.Provider {
		t.Errorf("BuildInput(...) = input of %s, effective %v, want the same digest", in.SPC.ParametersSHA256, e)
	}
	return in
}

func TestBuildInput(t *testing.T) {
	got := build(t)
	want := policies.Input{
		Contract: "portcullis/v1", Phase: policies.PhaseMount, NowNS: now().UnixNano(), Cluster: "prod-eu1",
		Subject: policies.Subject{
			Namespace: "payments", NamespaceLabels: map[string]string{"team": "payments"},
			ServiceAccount: "api", ServiceAccountAnnotations: map[string]string{"tier": "1"},
			PodName: "api-0", PodUID: "11111111-1111-4111-8111-111111111111", Node: "node-1", TokenVerified: new(true),
		},
		Tokens: []policies.Token{{Audience: "vault", Verified: true}},
		Pod: policies.Pod{
			FSGroup: new(int64(2000)), HostUsers: true, Labels: map[string]string{"app": "api"},
			Owner: &policies.Owner{Kind: "StatefulSet", Name: "api"},
			Containers: []policies.Container{{
				Name: "main", Image: "registry.example/api:1", Kind: policies.ContainerMain, AllowPrivilegeEscalation: true, MountsVolume: true,
			}},
		},
		SPC: policies.SPC{
			Name: "db", UID: "class-uid", Generation: 3, Provider: "local", ParametersSHA256: got.SPC.ParametersSHA256,
			Parameters: map[string]string{"objects": "(present)"},
		},
		Volume:   policies.Volume{Name: "secrets", ReadOnly: true, Ephemeral: true, VolumeMountGroup: new(int64(2000))},
		Requests: []policies.Request{{Secret: "local://node/payments/db-password", File: "password"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("BuildInput(...) differs (-want +got):\n%s", diff)
	}
}

// The same facts give the same input at every gate, but for what only one gate
// has.
func TestP2SameFactsSameInput(t *testing.T) {
	mount := build(t)
	admission := build(t, func(f *kube.Facts) {
		f.Phase, f.Node, f.TokenVerified, f.Tokens, f.VolumeMountGroup = policies.PhaseAdmission, "", nil, nil, nil
		f.Requester = &policies.Requester{Username: "system:serviceaccount:kube-system:replicaset-controller"}
	})
	for _, phase := range []policies.Phase{policies.PhaseRotate, policies.PhaseSync, policies.PhaseCI} {
		got := build(t, func(f *kube.Facts) { f.Phase = phase })
		got.Phase = mount.Phase
		if diff := cmp.Diff(mount, got); diff != "" {
			t.Errorf("BuildInput(%s) differs from mount:\n%s", phase, diff)
		}
	}
	admission.Phase, admission.Requester = mount.Phase, nil
	admission.Subject.Node, admission.Subject.TokenVerified, admission.Tokens = mount.Subject.Node, mount.Subject.TokenVerified, mount.Tokens
	if diff := cmp.Diff(mount, admission); diff != "" {
		t.Errorf("BuildInput(admission) differs from mount:\n%s", diff)
	}
}

func TestBuildInputChangesNoObject(t *testing.T) {
	f := facts()
	before := [...]any{f.Pod.DeepCopy(), f.Namespace.DeepCopy(), f.ServiceAccount.DeepCopy(), f.Class.DeepCopy()}
	in, _, err := kube.BuildInput(f)
	if err != nil {
		t.Fatalf("BuildInput(...) = %v, want no error", err)
	}
	in.Subject.NamespaceLabels["team"], in.Pod.Labels["app"], in.Subject.ServiceAccountAnnotations["tier"] = "x", "x", "x"
	if diff := cmp.Diff(before, [...]any{f.Pod, f.Namespace, f.ServiceAccount, f.Class}); diff != "" {
		t.Errorf("objects changed:\n%s", diff)
	}
}

func TestBuildInputMissingFacts(t *testing.T) {
	for _, test := range []struct {
		fact   string
		change func(*kube.Facts)
	}{
		{"pod", func(f *kube.Facts) { f.Pod = nil }},
		{"namespace", func(f *kube.Facts) { f.Namespace = nil }},
		{"namespace", func(f *kube.Facts) { f.Namespace.Name = "other" }},
		{"service account", func(f *kube.Facts) { f.ServiceAccount = nil }},
		{"service account", func(f *kube.Facts) { f.ServiceAccount.Name = "other" }},
		{"service account", func(f *kube.Facts) { f.ServiceAccount.Namespace = "other" }},
		{"SecretProviderClass", func(f *kube.Facts) { f.Class = nil }},
		{"time", func(f *kube.Facts) { f.Now = time.Time{} }},
		{"cluster name", func(f *kube.Facts) { f.Cluster = "" }},
	} {
		t.Run(test.fact, func(t *testing.T) {
			_, e, err := kube.BuildInput(facts(test.change))
			missing, ok := errors.AsType[*kube.MissingFactError](err)
			if !ok || missing.Fact != test.fact || e.Digest() != "" {
				t.Errorf("BuildInput(...) = %v, want a *MissingFactError about %q", err, test.fact)
			}
		})
	}
}

func TestBuildInputRefuses(t *testing.T) {
	big := func(n int) map[string]string { return map[string]string{"x": strings.Repeat("x", n)} }
	for _, test := range []struct {
		name, field string
		change      func(*kube.Facts)
	}{
		{"class of another namespace", "metadata.namespace", func(f *kube.Facts) { f.Class.Namespace = "shop" }},
		{"another class", `csi.volumeAttributes["secretProviderClass"]`, func(f *kube.Facts) { f.Class.Name = "other" }},
		{"no such volume", `spec.volumes of pod "api-0"`, func(f *kube.Facts) { f.VolumeName = "other" }},
		{"not a CSI volume", `spec.volumes["secrets"]`, spec(func(s *corev1.PodSpec) { s.Volumes[0].CSI = nil })},
		{"another driver", `spec.volumes["secrets"]`, csi(func(c *corev1.CSIVolumeSource) { c.Driver = "other" })},
		{"not read-only", `spec.volumes["secrets"].csi.readOnly`, csi(func(c *corev1.CSIVolumeSource) { c.ReadOnly = new(false) })},
		{"read-only not set", `spec.volumes["secrets"].csi.readOnly`, csi(func(c *corev1.CSIVolumeSource) { c.ReadOnly = nil })},
		{"file system", `spec.volumes["secrets"].csi.fsType`, csi(func(c *corev1.CSIVolumeSource) { c.FSType = new("ext4") })},
		{"no attributes", `csi.volumeAttributes["secretProviderClass"]`, csi(func(c *corev1.CSIVolumeSource) { c.VolumeAttributes = nil })},
		{"spoofed key", `csi.volumeAttributes["csi.storage.k8s.io/pod.uid"]`,
			csi(func(c *corev1.CSIVolumeSource) { c.VolumeAttributes = attributes("csi.storage.k8s.io/pod.uid", "x") })},
		{"provider", "spec.provider", ofClass(func(s *spcv1.SecretProviderClassSpec) { s.Provider = "a/b" })},
		{"no group in the request", "volume_mount_group", func(f *kube.Facts) { f.VolumeMountGroup = nil }},
		{"other group in the request", "volume_mount_group", func(f *kube.Facts) { f.VolumeMountGroup = new(int64(0)) }},
		{"group without fsGroup", "volume_mount_group", spec(func(s *corev1.PodSpec) { s.SecurityContext = nil })},
		{"other group on republish", "volume_mount_group", func(f *kube.Facts) { f.Phase, f.VolumeMountGroup = policies.PhaseRotate, new(int64(1)) }},
		{"namespace labels", "metadata.labels of the namespace", func(f *kube.Facts) { f.Namespace.Labels = big(16 << 10) }},
		{"pod labels", "metadata.labels of the pod", func(f *kube.Facts) { f.Pod.Labels = big(16 << 10) }},
		{"service account annotations", "metadata.annotations of the service account", func(f *kube.Facts) { f.ServiceAccount.Annotations = big(16 << 10) }},
		{"too large in all", "(all)", spec(func(s *corev1.PodSpec) {
			for i := range 2000 {
				s.Containers = append(s.Containers, corev1.Container{Name: fmt.Sprint(i)})
			}
		})},
		{"cluster name", "cluster", func(f *kube.Facts) { f.Cluster = "a b" }},
		{"Secret's name", "spec.secretObjects[0].secretName", secretObject("Not A Name", "Opaque", "password", "k")},
		{"Secret's type", "spec.secretObjects[0].type", secretObject("s", "a b", "password", "k")},
		{"Secret's key", "spec.secretObjects[0].data", secretObject("s", "Opaque", "password", "a/b")},
	} {
		t.Run(test.name, func(t *testing.T) {
			in, e, err := kube.BuildInput(facts(test.change))
			field, ok := errors.AsType[*kube.FieldError](err)
			if !ok {
				t.Fatalf("BuildInput(...) = %v, want a *FieldError", err)
			}
			if field.Field != test.field || field.Remedy == "" {
				t.Errorf("BuildInput(...) = field %q, remedy %q, want field %q", field.Field, field.Remedy, test.field)
			}
			if e.Digest() != "" || len(in.Requests) != 0 {
				t.Errorf("BuildInput(...) = %v, %v besides an error, want zero values", in, e)
			}
		})
	}
}

func secretObject(name, kind, object, key string) func(*kube.Facts) {
	return ofClass(func(s *spcv1.SecretProviderClassSpec) {
		s.SecretObjects = append(s.SecretObjects, &spcv1.SecretObject{
			SecretName: name, Type: kind, Data: []*spcv1.SecretObjectData{{ObjectName: object, Key: key}},
		})
	})
}

// Before a request exists, the pod's fsGroup is what kubelet will send.
func TestVolumeMountGroup(t *testing.T) {
	none := func(f *kube.Facts) { f.VolumeMountGroup, f.Pod.Spec.SecurityContext = nil, nil }
	early := func(f *kube.Facts) { f.Phase, f.VolumeMountGroup = policies.PhaseAdmission, nil }
	for _, test := range []struct {
		name   string
		change func(*kube.Facts)
		want   *int64
	}{
		{"request", func(*kube.Facts) {}, new(int64(2000))},
		{"no group", none, nil},
		{"admission", early, new(int64(2000))},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, build(t, test.change).Volume.VolumeMountGroup); diff != "" {
				t.Errorf("volumeMountGroup differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDefaultServiceAccount(t *testing.T) {
	in := build(t, func(f *kube.Facts) { f.Pod.Spec.ServiceAccountName, f.ServiceAccount.Name = "", "default" })
	if in.Subject.ServiceAccount != "default" {
		t.Errorf("serviceAccount = %q, want default", in.Subject.ServiceAccount)
	}
}

// kubectl's copy of the object may alone exceed the bound, and says nothing new.
func TestLastAppliedConfigurationIsLeftOut(t *testing.T) {
	in := build(t, func(f *kube.Facts) {
		f.ServiceAccount.Annotations = map[string]string{"tier": "1", corev1.LastAppliedConfigAnnotation: strings.Repeat("x", 32<<10)}
	})
	if diff := cmp.Diff(map[string]string{"tier": "1"}, in.Subject.ServiceAccountAnnotations); diff != "" {
		t.Errorf("annotations differ (-want +got):\n%s", diff)
	}
}

func TestOverridesAndSecretRef(t *testing.T) {
	in := build(t, csi(func(c *corev1.CSIVolumeSource) {
		c.VolumeAttributes = attributes("objects", "- objectName: payments/admin")
		c.NodePublishSecretRef = &corev1.LocalObjectReference{Name: "creds"}
	}))
	if diff := cmp.Diff([]string{"objects"}, in.Volume.Overrides); diff != "" {
		t.Errorf("overrides differ (-want +got):\n%s", diff)
	}
	if in.Volume.NodePublishSecretRef != "creds" {
		t.Errorf("nodePublishSecretRef = %q, want creds", in.Volume.NodePublishSecretRef)
	}
	if got := in.Requests[0].Secret; got != "local://node/payments/admin" {
		t.Errorf("secret = %q, want the one of the override", got)
	}
}

func TestUnparsedNamesTheDigest(t *testing.T) {
	in := build(t, ofClass(func(s *spcv1.SecretProviderClassSpec) { s.Parameters["objects"] = "- objectName: yes" }))
	if len(in.Requests) != 1 || in.Requests[0].Secret != "unparsed:"+in.SPC.ParametersSHA256 || in.Requests[0].ParseError == "" {
		t.Errorf("requests = %+v, want one unparsed:%s", in.Requests, in.SPC.ParametersSHA256)
	}
}

// A credential's value reaches no field of the input, and its digest neither.
func TestLiteralCredentialsLeaveByNameOnly(t *testing.T) {
	const canary = "Xcanary7"
	credential := func(value string) func(*kube.Facts) {
		return func(f *kube.Facts) {
			f.Class.Spec.Provider = "acme"
			f.Class.Spec.Parameters["clientSecret"] = value
			f.Class.Spec.Parameters["url"] = "https://u:" + value + "@vault.example"
		}
	}
	in := build(t, credential(canary))
	if diff := cmp.Diff([]string{"clientSecret", "url"}, in.SPC.LiteralCredentials); diff != "" {
		t.Errorf("literalCredentials differ (-want +got):\n%s", diff)
	}
	text, err := json.Marshal(in)
	if err != nil || strings.Contains(string(text), canary) {
		t.Errorf("input = %s, %v, want no %s", text, err, canary)
	}
	if diff := cmp.Diff(in, build(t, credential("other"))); diff != "" {
		t.Errorf("two credentials give two inputs:\n%s", diff)
	}
}

func TestSync(t *testing.T) {
	two := ofClass(func(s *spcv1.SecretProviderClassSpec) {
		s.Parameters["objects"] = "- objectName: a\n- objectName: b\n  objectAlias: c/d\n"
	})
	target := func(name, key string) policies.Sync { return policies.Sync{Name: name, Type: "Opaque", Key: key} }
	for _, test := range []struct {
		name    string
		changes []func(*kube.Facts)
		want    [][]policies.Sync
	}{
		{"none", nil, [][]policies.Sync{nil, nil}},
		{"by file", []func(*kube.Facts){secretObject("s", "Opaque", "a", "k")}, [][]policies.Sync{{target("s", "k")}, nil}},
		{"by alias", []func(*kube.Facts){secretObject("s", "Opaque", "c/d", "k")}, [][]policies.Sync{nil, {target("s", "k")}}},
		{"not by object name", []func(*kube.Facts){secretObject("s", "Opaque", "b", "k")}, [][]policies.Sync{nil, nil}},
		{"white space as upstream", []func(*kube.Facts){secretObject("s", "Opaque", " a ", " k ")}, [][]policies.Sync{{target("s", "k")}, nil}},
		{"two Secrets", []func(*kube.Facts){secretObject("s", "Opaque", "a", "k"), secretObject("t", "Opaque", "a", "l")},
			[][]policies.Sync{{target("s", "k"), target("t", "l")}, nil}},
		{"nothing there", []func(*kube.Facts){ofClass(func(s *spcv1.SecretProviderClassSpec) {
			s.SecretObjects = []*spcv1.SecretObject{nil, {SecretName: "s", Data: []*spcv1.SecretObjectData{nil}}}
		})}, [][]policies.Sync{nil, nil}},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := build(t, append([]func(*kube.Facts){two}, test.changes...)...)
			got := make([][]policies.Sync, len(in.Requests))
			for i, r := range in.Requests {
				got[i] = r.Sync
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("sync differs (-want +got):\n%s", diff)
			}
		})
	}
}

// Where the files are not known, every copy might be of any of them.
// TestSyncIsBounded: the author is told the field, not a part of our input.
func TestSyncIsBounded(t *testing.T) {
	copied := func(n int) func(*kube.Facts) {
		return ofClass(func(s *spcv1.SecretProviderClassSpec) {
			s.Parameters["objects"] = "- objectName: a\n"
			o := &spcv1.SecretObject{SecretName: "s", Type: "Opaque"}
			for i := range n {
				o.Data = append(o.Data, &spcv1.SecretObjectData{ObjectName: "a", Key: fmt.Sprintf("k%d", i)})
			}
			s.SecretObjects = append(s.SecretObjects, o)
		})
	}
	if got := len(build(t, copied(policies.MaxSyncPerRequest)).Requests[0].Sync); got != policies.MaxSyncPerRequest {
		t.Errorf("Sync = %d copies, want %d", got, policies.MaxSyncPerRequest)
	}
	_, _, err := kube.BuildInput(facts(copied(policies.MaxSyncPerRequest + 1)))
	if bad, ok := errors.AsType[*kube.FieldError](err); !ok || bad.Field != "spec.secretObjects" || bad.Remedy == "" {
		t.Errorf("BuildInput(65 copies) = %v, want a *FieldError of spec.secretObjects", err)
	}
}

func TestSyncOfUnparsed(t *testing.T) {
	in := build(t, secretObject("s", "Opaque", "whatever", "k"),
		ofClass(func(s *spcv1.SecretProviderClassSpec) { s.Parameters["objects"] = "?" }))
	if diff := cmp.Diff([]policies.Sync{{Name: "s", Type: "Opaque", Key: "k"}}, in.Requests[0].Sync); diff != "" {
		t.Errorf("sync differs (-want +got):\n%s", diff)
	}
}

func TestErrorTexts(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{&kube.FieldError{Field: "a", Problem: "is b", Remedy: "do c"}, "a is b"},
		{&kube.SpoofError{Field: "a"}, "a begins with csi.storage.k8s.io/, which only kubelet may use"},
		{&kube.MissingFactError{Fact: "pod"}, "fact is missing or of another object: pod"},
	} {
		if got := test.err.Error(); got != test.want {
			t.Errorf("Error() = %q, want %q", got, test.want)
		}
	}
}

func FuzzBuildInput(f *testing.F) {
	f.Add("objects", "- objectName: a", "- objectName: b", "s", "team", "x")
	f.Add("csi.storage.k8s.io/pod.name", "x", "null", "S", "\xff", "\x00")
	f.Add("password", "hunter2", "- &a [*a]", "", "", "")
	f.Fuzz(func(t *testing.T, attr, value, objects, secretName, label, labelValue string) {
		facts := facts(secretObject(secretName, "Opaque", "a", "k"), func(f *kube.Facts) {
			f.Class.Spec.Parameters["objects"] = objects
			f.Pod.Spec.Volumes[0].CSI.VolumeAttributes[attr] = value
			f.Pod.Labels[label] = labelValue
			f.Pod.OwnerReferences = []metav1.OwnerReference{{Kind: label, Name: labelValue, Controller: new(true)}}
		})
		in, e, err := kube.BuildInput(facts)
		if err != nil {
			if _, ok := errors.AsType[*kube.FieldError](err); !ok {
				t.Fatalf("BuildInput(...) = %v, want a *FieldError", err)
			}
			return
		}
		if err := in.Validate(); err != nil || len(in.Requests) == 0 || in.SPC.ParametersSHA256 != e.Digest() {
			t.Errorf("BuildInput(...) = %+v with %v, want a valid input with requests", in, err)
		}
	})
}

func BenchmarkBuildInput(b *testing.B) {
	f := facts()
	for b.Loop() {
		if _, _, err := kube.BuildInput(f); err != nil {
			b.Fatalf("BuildInput(...) = %v, want no error", err)
		}
	}
}
