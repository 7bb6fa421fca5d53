package server_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/admission/server"
)

// authority signs certificates of callers.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: "callers"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	made := a.sign(t, template)
	key, ok := made.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		t.Fatalf("key is %T", made.PrivateKey)
	}
	a.cert, a.key = made.Leaf, key
	return a
}

// sign makes a certificate, of itself where the authority has none yet.
func (a *authority) sign(t *testing.T, template *x509.Certificate) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	by, signer := template, key
	if a.cert != nil {
		by, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func (a *authority) caller(t *testing.T, name string, changes ...func(*x509.Certificate)) *tls.Certificate {
	t.Helper()
	template := &x509.Certificate{Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, change := range changes {
		change(template)
	}
	return a.sign(t, template)
}

func (a *authority) write(t *testing.T, file string) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// showing is a client that shows a certificate, or none.
func (w *world) showing(c *tls.Certificate) *http.Client {
	config := &tls.Config{InsecureSkipVerify: true}
	if c != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c, nil }
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}, Timeout: 10 * time.Second}
}

// With the authority of callers nobody else gets as far as a review.
func TestOnlyCallersAreAnswered(t *testing.T) {
	ours, others := newAuthority(t), newAuthority(t)
	file := filepath.Join(t.TempDir(), "ca.crt")
	ours.write(t, file)
	w := start(t, func(c *server.Config) {
		var err error
		if c.Callers, err = server.NewCallers(file, []string{"kube-apiserver", "other-apiserver"}, c.Logger); err != nil {
			t.Fatal(err)
		}
	})
	for name, test := range map[string]struct {
		show *tls.Certificate
		want bool
	}{
		"an API server":           {ours.caller(t, "kube-apiserver"), true},
		"the other name":          {ours.caller(t, "other-apiserver"), true},
		"nobody":                  {nil, false},
		"a node of the cluster":   {ours.caller(t, "system:node:node1"), false},
		"no name":                 {ours.caller(t, ""), false},
		"a name in another place": {ours.caller(t, "x", func(c *x509.Certificate) { c.DNSNames = []string{"kube-apiserver"} }), false},
		"of another authority":    {others.caller(t, "kube-apiserver"), false},
		"of a server": {ours.caller(t, "kube-apiserver", func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}), false},
		"over": {ours.caller(t, "kube-apiserver", func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
		}), false},
	} {
		w.client = w.showing(test.show)
		code, text := w.ask("/pods", bytes.NewReader(review(0)))
		if (code == http.StatusOK) != test.want || !test.want && code != 0 {
			t.Errorf("%s = %d %q, want that it is answered: %v", name, code, text, test.want)
		}
	}
}

// Who asks for no more than our own certificate gets it without one of theirs: that
// is how readiness and doctor look at what is served.
func TestTheCertificateIsSeenWithoutOne(t *testing.T) {
	ours := newAuthority(t)
	file := filepath.Join(t.TempDir(), "ca.crt")
	ours.write(t, file)
	w := start(t, func(c *server.Config) {
		c.Callers, _ = server.NewCallers(file, []string{"kube-apiserver"}, c.Logger)
	})
	conn, err := w.dialFrom("127.0.1.1")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if secured, ok := conn.(*tls.Conn); !ok || len(secured.ConnectionState().PeerCertificates) == 0 {
		t.Error("no certificate was shown, want ours")
	}
}

// An authority that is replaced counts without a restart; a file that holds none, or
// is gone, changes nothing.
func TestAuthoritiesAreReadAgain(t *testing.T) {
	first, second := newAuthority(t), newAuthority(t)
	file := filepath.Join(t.TempDir(), "ca.crt")
	first.write(t, file)
	var c *server.Callers
	w := start(t, func(config *server.Config) {
		var err error
		if c, err = server.NewCallers(file, []string{"kube-apiserver"}, config.Logger); err != nil {
			t.Fatal(err)
		}
		config.Callers = c
	})
	answered := func(a *authority) bool {
		w.client = w.showing(a.caller(t, "kube-apiserver"))
		code, _ := w.ask("/pods", bytes.NewReader(review(0)))
		return code == http.StatusOK
	}
	for name, change := range map[string]func(){
		"gone":  func() { _ = os.Remove(file) },
		"empty": func() { _ = os.WriteFile(file, nil, 0o600) },
		"text": func() {
			_ = os.WriteFile(file, []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), 0o600)
		},
	} {
		change()
		server.ReadAgain(c)
		if !answered(first) || answered(second) {
			t.Errorf("%s: want that the first authority still counts", name)
		}
	}
	second.write(t, file)
	if !answered(first) || answered(second) {
		t.Error("the file was read within seconds, which every handshake could ask for")
	}
	server.ReadAgain(c)
	if answered(first) || !answered(second) {
		t.Error("want that the second authority counts alone")
	}
}

func TestCallersAreChecked(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "bad.crt")
	newAuthority(t).write(t, good)
	if err := os.WriteFile(bad, []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	for name, test := range map[string]struct {
		file  string
		names []string
		want  string
	}{
		"no names": {good, nil, "names"}, "an empty name": {good, []string{""}, "name is empty"}, "no file": {dir + "/none", []string{"x"}, "no such file"},
		"no certificate": {bad, []string{"x"}, "holds no certificate; hint: "},
	} {
		if _, err := server.NewCallers(test.file, test.names, logger); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: NewCallers() = %v, want %q", name, err, test.want)
		}
	}
}
