//go:build e2e

package e2e_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	certSecret    = "portcullis-webhook-cert"
	configuration = "portcullis"
	nextAuthority = "portcullis-webhook-ca-of-the-test"
	// looks is twice the time in which each replica looks at the Secret.
	looks = time.Minute
)

// certificatesRotate replaces the authority and the certificates of both replicas
// while the API server asks them all the time: no request fails for it. What takes
// months by itself is brought on by what the Secret says, as the replicas read it;
// what they then do, and how fast, is the release's own way.
func (w *world) certificatesRotate() {
	l := &load{w: w, namespace: w.namespace("load"), served: map[string][]*x509.Certificate{}}
	stop := l.start()
	defer stop()
	l.await("both replicas are seen", func(last *x509.Certificate, count int) bool { return count > 0 })

	w.Log("the serving certificate is lost, and an authority waits to be trusted")
	cert, key := w.authorityOfTheTest()
	w.patchSecret(map[string]any{"tls.crt": nil, "tls.key": nil, "next-ca.crt": cert, "next-ca.key": key})
	w.eventually(looks, "the next authority is trusted", func() error {
		secret, err := w.client.CoreV1().Secrets(system).Get(w.Context(), certSecret, metav1.GetOptions{})
		if err == nil && len(secret.Data["next-ca.since"]) == 0 {
			err = errors.New("the Secret does not say so")
		}
		return err
	})

	w.Log("it was trusted for long enough, and signs")
	w.patchSecret(map[string]any{"next-ca.since": []byte(time.Now().Add(-2 * time.Hour).UTC().Format(time.RFC3339))})
	l.await("both replicas serve by the next authority", func(last *x509.Certificate, _ int) bool { return last.Issuer.CommonName == nextAuthority })
	before := l.serials()

	w.Log("the serving certificate is renewed once more")
	w.patchSecret(map[string]any{"tls.crt": nil, "tls.key": nil})
	l.await("both replicas serve another certificate", func(last *x509.Certificate, _ int) bool { return !before[last.SerialNumber.String()] })
	stop()
	l.judge()
}

// load asks for reviews all the time, and shakes hands with each replica as an API
// server does that has just read the configuration.
type load struct {
	w         *world
	namespace string

	mu         sync.Mutex
	reviews    int
	handshakes int
	late       int // answers that did not come in time: of a busy machine
	failures   []string
	served     map[string][]*x509.Certificate // by replica, each once
}

const (
	reviewers   = 3
	reviewPause = 100 * time.Millisecond
	shakePause  = 200 * time.Millisecond
)

func (l *load) start() (stop func()) {
	ctx, cancel := context.WithCancel(l.w.Context())
	var running sync.WaitGroup
	for i := range reviewers {
		running.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				l.review(ctx, fmt.Sprintf("load-%d-%d", i, n))
				time.Sleep(reviewPause)
			}
		})
	}
	running.Go(func() {
		for ctx.Err() == nil {
			l.shakeHands(ctx)
		}
	})
	return sync.OnceFunc(func() { cancel(); running.Wait() })
}

// review has the API server ask a replica, by the connections that it has or makes.
func (l *load) review(ctx context.Context, name string) {
	_, err := l.w.client.CoreV1().Pods(l.namespace).Create(ctx, pod(l.namespace, name), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if ctx.Err() != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reviews++
	switch {
	case err == nil:
	case strings.Contains(err.Error(), "context deadline exceeded"):
		l.late++
	default:
		l.failures = append(l.failures, err.Error())
	}
}

// shakeHands reads what API servers trust, and a little later makes a connection to
// each replica.
func (l *load) shakeHands(ctx context.Context) {
	object, err := l.w.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(ctx, configuration, metav1.GetOptions{})
	if err != nil {
		l.note(ctx, "", nil, err)
		return
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(object.Webhooks[0].ClientConfig.CABundle)
	time.Sleep(shakePause)
	for _, name := range replicas {
		p, err := l.w.client.CoreV1().Pods(system).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			l.note(ctx, name, nil, err)
			continue
		}
		leaf, err := l.shakeHand(ctx, p.Status.PodIP+":9443", roots)
		l.note(ctx, name, leaf, err)
	}
}

func (l *load) shakeHand(ctx context.Context, address string, roots *x509.CertPool) (*x509.Certificate, error) {
	conn, err := l.w.lab.Dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	secured := tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: serviceNames()[0], MinVersion: tls.VersionTLS13})
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return secured.ConnectionState().PeerCertificates[0], nil
}

func (l *load) note(ctx context.Context, replica string, leaf *x509.Certificate, err error) {
	if ctx.Err() != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.handshakes++
	if err != nil {
		l.failures = append(l.failures, replica+": "+err.Error())
		return
	}
	if seen := l.served[replica]; len(seen) == 0 || !seen[len(seen)-1].Equal(leaf) {
		l.served[replica] = append(seen, leaf)
	}
}

// await waits until what each replica served last is as wanted, given how many
// certificates it has served.
func (l *load) await(what string, is func(last *x509.Certificate, count int) bool) {
	l.w.Helper()
	l.w.eventually(looks+30*time.Second, what, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, name := range replicas {
			seen := l.served[name]
			if len(seen) == 0 || !is(seen[len(seen)-1], len(seen)) {
				return fmt.Errorf("%s has served %d certificates; %d failures", name, len(seen), len(l.failures))
			}
		}
		return nil
	})
}

// serials are those of all certificates that were served so far.
func (l *load) serials() map[string]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[string]bool{}
	for _, seen := range l.served {
		for _, c := range seen {
			all[c.SerialNumber.String()] = true
		}
	}
	return all
}

func (l *load) judge() {
	l.w.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.w.Logf("%d reviews, %d of them late, and %d handshakes", l.reviews, l.late, l.handshakes)
	if len(l.failures) > 0 || l.late*100 > l.reviews {
		l.w.Errorf("%d requests failed, and %d of %d were late: %q", len(l.failures), l.late, l.reviews, l.failures[:min(5, len(l.failures))])
	}
	if l.reviews < 100 || l.handshakes < 50 {
		l.w.Errorf("%d reviews and %d handshakes are no load", l.reviews, l.handshakes)
	}
	for _, name := range replicas {
		// Of both authorities, and two of the one that came.
		if n := len(l.served[name]); n < 3 {
			l.w.Errorf("%s served %d certificates, want three or more", name, n)
		}
	}
}

// patchSecret changes keys of the replicas' Secret; nil takes one away.
func (w *world) patchSecret(data map[string]any) {
	w.Helper()
	patch, err := json.Marshal(map[string]any{"data": data})
	if err != nil {
		w.Fatal(err)
	}
	if _, err := w.client.CoreV1().Secrets(system).Patch(w.Context(), certSecret, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		w.Fatal(err)
	}
}

func serviceNames() []string {
	name := webhookName + "." + system + ".svc"
	return []string{name, name + ".cluster.local"}
}

// authorityOfTheTest is one as the webhook makes them: for its Service alone.
func (w *world) authorityOfTheTest() (cert, key []byte) {
	w.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: nextAuthority},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(365 * 24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true, PermittedDNSDomainsCritical: true, PermittedDNSDomains: serviceNames(),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		w.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		w.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text})
}
