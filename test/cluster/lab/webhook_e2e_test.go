//go:build e2e

package lab_test

import (
	"bytes"
	"crypto/x509/pkix"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/portcullis-csi/portcullis/test/cluster/authority"
	"github.com/portcullis-csi/portcullis/test/cluster/image"
	"github.com/portcullis-csi/portcullis/test/cluster/lab"
	"github.com/portcullis-csi/portcullis/test/cluster/programs"
)

const (
	webhookImage = "lab.invalid/denier:1"
	webhookName  = "denier"
)

// TestAWebhookIsReachedThroughItsService: without kube-proxy, since the API
// server resolves services to endpoints.
func TestAWebhookIsReachedThroughItsService(t *testing.T) {
	c := clientOf(t, up(t, lab.Config{Name: "test-webhook"}))
	c.loadDenier(t)
	ca, err := authority.New()
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := ca.Issue(pkix.Name{CommonName: webhookName}, webhookName+".default.svc")
	if err != nil {
		t.Fatal(err)
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: webhookName}, Data: map[string][]byte{"tls.crt": cert, "tls.key": key}}
	if _, err := c.client.CoreV1().Secrets("default").Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: webhookName},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": webhookName}, Ports: []corev1.ServicePort{{Port: 443, TargetPort: intstr.FromInt32(8443)}}},
	}
	if _, err := c.client.CoreV1().Services("default").Create(t.Context(), service, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	p := pod(webhookName, "")
	p.Spec.Volumes = []corev1.Volume{{Name: "tls", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: webhookName}}}}
	p.Spec.Containers[0] = corev1.Container{
		Name: "main", Image: webhookImage, Args: []string{":8443", "/tls/tls.crt", "/tls/tls.key"},
		VolumeMounts:   []corev1.VolumeMount{{Name: "tls", MountPath: "/tls"}},
		ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(8443)}}, PeriodSeconds: 1},
	}
	running := c.run(t, p)
	if conn, err := c.Dial(t.Context(), "tcp", running.Status.PodIP+":8443"); err != nil {
		t.Errorf("Dial(the pod) from outside = %v, want nil", err)
	} else {
		_ = conn.Close()
	}
	if err := c.createConfigMap(t, "before"); err != nil {
		t.Fatalf("Create(config map) without a webhook = %v, want nil", err)
	}
	c.register(t, ca.PEM())
	await(t, "the webhook denies", func() error {
		err := c.createConfigMap(t, "after")
		switch {
		case err == nil:
			c.deleteConfigMap(t, "after")
			return errors.New("admitted")
		case !strings.Contains(err.Error(), "denied by the pod behind the service"):
			return err
		}
		return nil
	})
}

// register makes the API server ask the webhook, and refuse where it does not
// answer.
func (c cluster) register(t *testing.T, ca []byte) {
	t.Helper()
	_, err := c.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Create(t.Context(), &admissionv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: webhookName},
		Webhooks: []admissionv1.ValidatingWebhook{{
			Name: "denier.lab.invalid", AdmissionReviewVersions: []string{"v1"}, SideEffects: new(admissionv1.SideEffectClassNone), FailurePolicy: new(admissionv1.Fail),
			ClientConfig: admissionv1.WebhookClientConfig{CABundle: ca, Service: &admissionv1.ServiceReference{Namespace: "default", Name: webhookName}},
			Rules: []admissionv1.RuleWithOperations{{
				Operations: []admissionv1.OperationType{admissionv1.Create},
				Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}},
			}},
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

func (c cluster) createConfigMap(t *testing.T, name string) error {
	t.Helper()
	_, err := c.client.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	return err
}

func (c cluster) deleteConfigMap(t *testing.T, name string) {
	t.Helper()
	if err := c.client.CoreV1().ConfigMaps("default").Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// loadDenier builds the webhook's image and gives it to the node.
func (c cluster) loadDenier(t *testing.T) {
	t.Helper()
	root, err := programs.Root()
	if err != nil {
		t.Fatal(err)
	}
	program, archive := filepath.Join(t.TempDir(), "denier"), filepath.Join(t.TempDir(), "denier.tar")
	build := exec.Command("go", "build", "-trimpath", "-o", program, "./test/cluster/denier")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the webhook: %v: %s", err, out)
	}
	var b bytes.Buffer
	i := image.Image{References: []string{webhookImage}, Architecture: runtime.GOARCH, Entrypoint: []string{"/denier"}, Files: []image.File{{Path: "/denier", From: program}}}
	if err := i.Write(&b); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(archive, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.LoadImage(t.Context(), archive); err != nil {
		t.Fatal(err)
	}
}
