package inputs_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/kube"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

const canary = "canary-5d0c1b7e-never-to-be-kept"

// decideClass decides about a pod whose class has these parameters.
func decideClass(t testing.TB, parameters map[string]string) policies.Decision {
	t.Helper()
	meta := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Name: name, Namespace: "payments", UID: "11111111-1111-4111-8111-111111111111"}
	}
	in, _, err := kube.BuildInput(kube.Facts{
		Phase: policies.PhaseCI, Now: time.Unix(0, policiestest.Now), Cluster: "test", DriverName: "secrets-store.csi.k8s.io",
		Pod: &corev1.Pod{ObjectMeta: meta("api-0"), Spec: corev1.PodSpec{
			ServiceAccountName: "api", Containers: []corev1.Container{{Name: "main", Image: "registry.example/main:1"}},
			Volumes: []corev1.Volume{{Name: "secrets", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{
				Driver: "secrets-store.csi.k8s.io", ReadOnly: new(true), VolumeAttributes: map[string]string{"secretProviderClass": "db"},
			}}}},
		}},
		Namespace: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "payments"}}, ServiceAccount: &corev1.ServiceAccount{ObjectMeta: meta("api")},
		Class:      &spcv1.SecretProviderClass{ObjectMeta: meta("db"), Spec: spcv1.SecretProviderClassSpec{Provider: "local", Parameters: parameters}},
		VolumeName: "secrets",
	})
	if err != nil {
		t.Fatal(err)
	}
	d := policiestest.Engine(t, policiestest.Grants).Decide(t.Context(), in)
	if d.Verdict() == policies.VerdictError {
		t.Fatal(d.Cause())
	}
	return d
}

// leaks looks for a text, and for what gives it away, in every file.
func leaks(t testing.TB, dir, text string) map[string]string {
	t.Helper()
	digest := sha256.Sum256([]byte(text))
	forms := map[string][]byte{
		"as it is": []byte(text), "in base64": []byte(base64.StdEncoding.EncodeToString([]byte(text))[:30]),
		"in hexadecimal digits": []byte(hex.EncodeToString([]byte(text))), "by its SHA-256": []byte(hex.EncodeToString(digest[:])),
		"by its raw SHA-256": digest[:],
	}
	found := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		for how, form := range forms {
			if bytes.Contains(content, form) {
				found[e.Name()] = how
			}
		}
	}
	return found
}
