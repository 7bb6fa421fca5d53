//go:build integration

package certificates_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/portcullis-csi/portcullis/admission/certificates"
	"github.com/portcullis-csi/portcullis/test/cluster/clustertest"
)

const (
	ns            = "security"
	secretName    = "portcullis-webhook-cert"
	serviceName   = "portcullis-webhook"
	configuration = "portcullis"
)

// rights are what the account of the webhook has, and all of it.
const rights = `
apiVersion: v1
kind: Namespace
metadata: {name: security}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: portcullis-webhook, namespace: security}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: portcullis-webhook, namespace: security}
rules:
- {apiGroups: [""], resources: [secrets], resourceNames: [portcullis-webhook-cert], verbs: [get, update]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: portcullis-webhook, namespace: security}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: portcullis-webhook}
subjects: [{kind: ServiceAccount, name: portcullis-webhook, namespace: security}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: portcullis-webhook}
rules:
- {apiGroups: [admissionregistration.k8s.io], resources: [validatingwebhookconfigurations], resourceNames: [portcullis], verbs: [get, patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: portcullis-webhook}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: portcullis-webhook}
subjects: [{kind: ServiceAccount, name: portcullis-webhook, namespace: security}]
---
apiVersion: v1
kind: Secret
metadata: {name: portcullis-webhook-cert, namespace: security}
`

// world is a cluster with the objects of the webhook.
type world struct {
	t       *testing.T
	cluster *clustertest.Cluster
	account *rest.Config
	lives   certificates.Lifetimes
}

// replica is one that serves.
type replica struct {
	rotator *certificates.Rotator
	served  *certificates.Served
	addr    *net.TCPAddr
	log     *syncBuffer
	stop    func()
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, cluster: clustertest.Start(t, clustertest.Options{}), lives: certificates.Lifetimes{
		CA: 24 * time.Second, Serving: 8 * time.Second, Settle: 3 * time.Second, Lost: 5 * time.Second, Look: time.Second, Spread: 500 * time.Millisecond,
	}}
	w.cluster.Apply(t, rights)
	w.account = w.cluster.As(t, ns, serviceName)
	return w
}

// configure makes the configuration: a webhook of ours by the Service, and one of
// somebody else that nobody may touch. Nothing leads from the
// Service to a replica: the tests make the handshakes.
func (w *world) configure() {
	w.t.Helper()
	fail, none, ignore := admissionv1.Fail, admissionv1.SideEffectClassNone, admissionv1.Ignore
	rule := []admissionv1.RuleWithOperations{{Operations: []admissionv1.OperationType{admissionv1.Create}, Rule: admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}}}}
	hook := func(name, service string, policy *admissionv1.FailurePolicyType) admissionv1.ValidatingWebhook {
		return admissionv1.ValidatingWebhook{
			Name: name, Rules: rule, FailurePolicy: policy, SideEffects: &none, AdmissionReviewVersions: []string{"v1"}, TimeoutSeconds: new(int32(5)),
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": "load"}},
			ClientConfig:      admissionv1.WebhookClientConfig{Service: &admissionv1.ServiceReference{Namespace: ns, Name: service, Port: new(int32(443)), Path: new("/pods")}},
		}
	}
	other := hook("other.example.org", "somebody-elses", &ignore)
	other.NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"] = "nowhere"
	_, err := w.cluster.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Create(w.t.Context(), &admissionv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: configuration},
		Webhooks:   []admissionv1.ValidatingWebhook{hook("pods.example.org", serviceName, &fail), hook("more.example.org", serviceName, &fail), other},
	}, metav1.CreateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
}

// start starts a replica.
func (w *world) start() *replica {
	w.t.Helper()
	r := &replica{log: &syncBuffer{}}
	var err error
	r.rotator, err = certificates.New(certificates.Config{
		REST: w.account, Namespace: ns, Secret: secretName, Service: serviceName, Configuration: configuration,
		Logger: slog.New(slog.NewTextHandler(r.log, nil)), Lifetimes: w.lives,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	l, err := new(net.ListenConfig).Listen(w.t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		w.t.Fatalf("listening at %v, which is no TCP address", l.Addr())
	}
	r.addr = addr
	server := &http.Server{Handler: http.NotFoundHandler(), TLSConfig: &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: r.rotator.GetCertificate}, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.rotator.Run(ctx) }()
	go func() { _ = server.ServeTLS(l, "", "") }()
	r.stop = sync.OnceFunc(func() { cancel(); <-done; server.Close() })
	w.t.Cleanup(r.stop)
	if r.served, err = certificates.NewServed(certificates.ServedConfig{REST: w.account, Address: r.addr, Namespace: ns, Service: serviceName, Configuration: configuration}); err != nil {
		w.t.Fatal(err)
	}
	return r
}

// handshake does what an API server does that knows the configuration of now.
func (w *world) handshake(r *replica) error {
	o, err := w.cluster.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(w.t.Context(), configuration, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, hook := range o.Webhooks[:2] {
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(hook.ClientConfig.CABundle) {
			return errors.New("no caBundle")
		}
		conn, err := tls.Dial("tcp", r.addr.String(), &tls.Config{RootCAs: roots, ServerName: serviceName + "." + ns + ".svc"})
		if err != nil {
			return fmt.Errorf("%s: %w", hook.Name, err)
		}
		conn.Close()
	}
	if len(o.Webhooks[2].ClientConfig.CABundle) > 0 {
		return errors.New("somebody else's webhook has our caBundle")
	}
	return nil
}

// await waits until a replica is trusted.
func (w *world) await(why string, replicas ...*replica) {
	w.t.Helper()
	for _, r := range replicas {
		w.until(why, func() error { return errors.Join(w.handshake(r), r.rotator.Failure()) })
	}
}

func (w *world) until(why string, f func() error) {
	w.t.Helper()
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	w.t.Fatalf("%s: %v", why, err)
}

func (w *world) secret() *corev1.Secret {
	w.t.Helper()
	s, err := w.cluster.Client.CoreV1().Secrets(ns).Get(w.t.Context(), secretName, metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) setSecret(data map[string][]byte) {
	w.t.Helper()
	w.until("write Secret", func() error {
		s := w.secret()
		s.Data = data
		_, err := w.cluster.Client.CoreV1().Secrets(ns).Update(w.t.Context(), s, metav1.UpdateOptions{})
		return err
	})
}

// setBundle writes the caBundle of one of our webhooks as a foreign hand does.
func (w *world) setBundle(bundle []byte) {
	w.t.Helper()
	w.until("write caBundle", func() error {
		api := w.cluster.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
		o, err := api.Get(w.t.Context(), configuration, metav1.GetOptions{})
		if err != nil {
			return err
		}
		o.Webhooks[1].ClientConfig.CABundle = bundle
		_, err = api.Update(w.t.Context(), o, metav1.UpdateOptions{})
		return err
	})
}

// TestRotationUnderHandshakes lets two replicas live through several authorities
// while new connections are made to both all the time, each by the caBundle of
// that moment, and by that of half a second ago, as an API server may still have.
func TestRotationUnderHandshakes(t *testing.T) {
	w := newWorld(t)
	w.configure()
	replicas := []*replica{w.start(), w.start()}
	w.await("two replicas start", replicas...)
	var before *admissionv1.ValidatingWebhookConfiguration
	authorities, leaves := map[string]bool{}, map[string]bool{}
	handshakes := 0
	for end := time.Now().Add(45 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		o, err := w.cluster.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), configuration, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, version := range []*admissionv1.ValidatingWebhookConfiguration{o, before} {
			if version == nil {
				continue
			}
			for i, r := range replicas {
				roots := x509.NewCertPool()
				roots.AppendCertsFromPEM(version.Webhooks[0].ClientConfig.CABundle)
				conn, err := tls.Dial("tcp", r.addr.String(), &tls.Config{RootCAs: roots, ServerName: serviceName + "." + ns + ".svc"})
				if err != nil {
					t.Fatalf("replica %d after %d handshakes: %v\n%s", i, handshakes, err, r.log)
				}
				handshakes++
				leaves[string(conn.ConnectionState().PeerCertificates[0].Raw)] = true
				conn.Close()
			}
		}
		before = o
		authorities[string(w.secret().Data["ca.crt"])] = true
		for i, r := range replicas {
			if err := r.served.Err(); err != nil {
				t.Fatalf("replica %d is not ready: %v", i, err)
			}
		}
	}
	if len(authorities) < 3 || len(leaves) < 6 {
		t.Errorf("%d authorities and %d serving certificates in 45 s, want 3 and 6 at least: nothing was tried", len(authorities), len(leaves))
	}
	t.Logf("%d handshakes, %d authorities, %d serving certificates", handshakes, len(authorities), len(leaves))
	for i, r := range replicas {
		if strings.Contains(r.log.String(), "PRIVATE") || strings.Contains(r.log.String(), "somebody else") {
			t.Errorf("log of replica %d holds a key, or takes the other one for a stranger:\n%s", i, r.log)
		}
	}
}

// Many replicas that start at once agree on one authority.
func TestReplicasRace(t *testing.T) {
	w := newWorld(t)
	w.lives = certificates.Lifetimes{Look: time.Second, Spread: 100 * time.Millisecond}
	w.configure()
	var replicas []*replica
	for range 6 {
		replicas = append(replicas, w.start())
	}
	w.await("replicas race", replicas...)
	certs, err := splitBundle(w)
	if err != nil || certs != 1 {
		t.Errorf("the caBundle has %d certificates, %v, want one", certs, err)
	}
}

func splitBundle(w *world) (int, error) {
	o, err := w.cluster.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(w.t.Context(), configuration, metav1.GetOptions{})
	if err != nil {
		return 0, err
	}
	return bytes.Count(o.Webhooks[0].ClientConfig.CABundle, []byte("BEGIN CERTIFICATE")), nil
}

// TestFaults breaks one thing after another in one cluster.
func TestFaults(t *testing.T) {
	w := newWorld(t)
	w.lives = certificates.Lifetimes{Lost: 3 * time.Second, Look: 500 * time.Millisecond, Spread: 300 * time.Millisecond}
	one := w.start()
	w.until("there is no configuration", func() error {
		if err := one.rotator.Failure(); err == nil || !strings.Contains(err.Error(), `ValidatingWebhookConfiguration "portcullis" is not in the cluster`) || !strings.Contains(err.Error(), "hint: ") {
			return fmt.Errorf("Failure() = %w, want what is missing", err)
		}
		if err := one.served.Err(); err == nil {
			return errors.New("ready without a configuration")
		}
		return nil
	})
	w.configure()
	w.await("the configuration came", one)
	authority := w.secret().Data["ca.crt"]

	t.Log("a foreign hand overwrites a caBundle")
	stranger := certificates.NewReplica(time.Now(), certificates.Names("x", "y"))
	if _, err := stranger.Steps(); err != nil {
		t.Fatal(err)
	}
	w.setBundle(stranger.Data["ca.crt"])
	w.until("the caBundle is put right", func() error { return w.handshake(one) })
	if n, err := splitBundle(w); err != nil || n != 1 {
		t.Errorf("caBundle has %d certificates, %v, want the stranger's gone", n, err)
	}
	if !strings.Contains(one.log.String(), "changed by somebody else") {
		t.Errorf("nobody was told of the foreign hand:\n%s", one.log)
	}

	t.Log("the Secret is emptied, then filled with garbage, while a replica remembers")
	for _, data := range []map[string][]byte{nil, {"ca.crt": []byte("x"), "tls.key": {0, 1, 2}, "mine": []byte("kept")}} {
		w.setSecret(data)
		w.until("the Secret is written again", func() error {
			if !bytes.Equal(w.secret().Data["ca.crt"], authority) {
				return errors.New("another authority")
			}
			return w.handshake(one)
		})
	}
	if string(w.secret().Data["mine"]) != "kept" {
		t.Error("a key of somebody else is gone from the Secret")
	}

	t.Log("the Secret is deleted: what is served goes on, and the remedy works")
	if err := w.cluster.Client.CoreV1().Secrets(ns).Delete(t.Context(), secretName, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.until("the loss is told", func() error {
		if err := one.rotator.Failure(); err == nil || !strings.Contains(err.Error(), "kubectl -n security create secret generic portcullis-webhook-cert") {
			return fmt.Errorf("Failure() = %w, want the remedy", err)
		}
		return w.handshake(one)
	})
	w.until("ready without the Secret", one.served.Err)
	_, err := w.cluster.Client.CoreV1().Secrets(ns).Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: secretName}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.await("the Secret is made again", one)
	if !bytes.Equal(w.secret().Data["ca.crt"], authority) {
		t.Error("the authority is another one after all")
	}

	t.Log("everything is lost, and one replica still serves by the old authority")
	one.stop()
	w.setSecret(map[string][]byte{"ca.crt": []byte("x")})
	two := w.start()
	w.await("a new authority begins", two)
	if n, err := splitBundle(w); err != nil || n != 2 {
		t.Errorf("caBundle has %d certificates, %v, want the old one beside the new one", n, err)
	}
	w.until("the old one goes", func() error {
		if n, err := splitBundle(w); err != nil || n != 1 {
			return fmt.Errorf("caBundle has %d certificates, %w", n, err)
		}
		return w.handshake(two)
	})
}

// TestServedIsWhatIsTrusted: a wrong caBundle does not fail while API servers keep
// their connections, so readiness must tell.
func TestServedIsWhatIsTrusted(t *testing.T) {
	w := newWorld(t)
	w.lives = certificates.Lifetimes{Look: 500 * time.Millisecond, Spread: 100 * time.Millisecond}
	w.configure()
	r := w.start()
	w.await("start", r)
	r.rotator.Run(canceled()) // it may be run again
	r.stop()
	again := w.start()
	w.await("start again", again)
	w.until("ready", again.served.Err)
	fresh := func() error {
		s, err := certificates.NewServed(certificates.ServedConfig{REST: w.account, Address: again.addr, Namespace: ns, Service: serviceName, Configuration: configuration})
		if err != nil {
			t.Fatal(err)
		}
		return s.Err()
	}
	if left := time.Until(again.served.Expires()); left < 6*24*time.Hour || left > 8*24*time.Hour {
		t.Errorf("Expires() is %v away, want a week", left)
	}

	t.Log("the API server goes: what it said last counts")
	w.cluster.StopAPIServer()
	time.Sleep(6 * time.Second)
	if err := again.served.Err(); err != nil {
		t.Errorf("not ready for want of an API server: %v", err)
	}
	if err := fresh(); err == nil {
		t.Error("ready without ever having read the configuration")
	}
	w.cluster.Restart(t)
	w.until("the API server is back", func() error { return errors.Join(again.rotator.Failure(), fresh()) })
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// The rights of this account are enough, and it has no more of Secrets.
func TestRights(t *testing.T) {
	w := newWorld(t)
	w.configure()
	r := w.start()
	w.await("start", r)
	for verb, path := range map[string]string{http.MethodGet: "/api/v1/namespaces/security/secrets", http.MethodPost: "/api/v1/namespaces/security/secrets", http.MethodDelete: "/api/v1/namespaces/security/secrets/portcullis-webhook-cert"} {
		client, err := rest.HTTPClientFor(w.account)
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), verb, w.account.Host+path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil || resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s %s = %v, %v, want 403", verb, path, resp, err)
		}
	}
	if _, err := w.cluster.Client.CoreV1().Secrets(ns).Get(t.Context(), "other", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Error(err)
	}
}
