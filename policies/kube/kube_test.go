package kube_test

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/kube"
)

const driverName = "secrets-store.csi.k8s.io"

// now is any fixed time.
func now() time.Time { return time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC) }

// class asks the local provider for one secret.
func class() *spcv1.SecretProviderClass {
	return &spcv1.SecretProviderClass{
		ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "payments", UID: "class-uid", Generation: 3},
		Spec: spcv1.SecretProviderClassSpec{
			Provider:   "local",
			Parameters: map[string]string{"objects": "- objectName: payments/db-password\n  objectAlias: password\n"},
		},
	}
}

func attributes(extra ...string) map[string]string {
	m := map[string]string{"secretProviderClass": "db"}
	for i := 0; i+1 < len(extra); i += 2 {
		m[extra[i]] = extra[i+1]
	}
	return m
}

func pod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "api-0", Namespace: "payments", UID: "11111111-1111-4111-8111-111111111111",
			Labels: map[string]string{"app": "api"},
			OwnerReferences: []metav1.OwnerReference{
				{Kind: "ConfigMap", Name: "other"}, {Kind: "StatefulSet", Name: "api", Controller: new(true)},
			},
		},
		Spec: corev1.PodSpec{
			ServiceAccountName: "api",
			SecurityContext:    &corev1.PodSecurityContext{FSGroup: new(int64(2000))},
			Containers: []corev1.Container{{
				Name: "main", Image: "registry.example/api:1", VolumeMounts: []corev1.VolumeMount{{Name: "secrets", MountPath: "/s"}},
			}},
			Volumes: []corev1.Volume{{Name: "secrets", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{
				Driver: driverName, ReadOnly: new(true), VolumeAttributes: attributes(),
			}}}},
		},
	}
}

// facts are complete for a mount; each change works on a copy of its own.
func facts(changes ...func(*kube.Facts)) kube.Facts {
	f := kube.Facts{
		Phase: policies.PhaseMount, Now: now(), Cluster: "prod-eu1", Node: "node-1", DriverName: driverName,
		Pod:              pod(),
		Namespace:        &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "payments", Labels: map[string]string{"team": "payments"}}},
		ServiceAccount:   &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "api", Namespace: "payments", Annotations: map[string]string{"tier": "1"}}},
		Class:            class(),
		VolumeName:       "secrets",
		VolumeMountGroup: new(int64(2000)),
		TokenVerified:    new(true),
		Tokens:           []policies.Token{{Audience: "vault", Verified: true}},
	}
	for _, change := range changes {
		change(&f)
	}
	return f
}

func csi(change func(*corev1.CSIVolumeSource)) func(*kube.Facts) {
	return func(f *kube.Facts) { change(f.Pod.Spec.Volumes[0].CSI) }
}

func spec(change func(*corev1.PodSpec)) func(*kube.Facts) {
	return func(f *kube.Facts) { change(&f.Pod.Spec) }
}

func ofClass(change func(*spcv1.SecretProviderClassSpec)) func(*kube.Facts) {
	return func(f *kube.Facts) { change(&f.Class.Spec) }
}
