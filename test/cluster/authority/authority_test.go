package authority_test

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"testing"

	"github.com/portcullis-csi/portcullis/test/cluster/authority"
)

func TestWhatIsIssuedIsTrusted(t *testing.T) {
	ca, err := authority.New()
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := ca.Issue(pkix.Name{CommonName: "system:node:node1", Organization: []string{"system:nodes"}}, "198.51.100.1", "kubernetes")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatalf("X509KeyPair() = %v, want a certificate and its own key", err)
	}
	if got := pair.Leaf.Subject.String(); got != "CN=system:node:node1,O=system:nodes" {
		t.Errorf("the subject is %q", got)
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: ca.Pool(), KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
			t.Errorf("Verify() for usage %v = %v, want nil", usage, err)
		}
	}
	for host, ok := range map[string]bool{"198.51.100.1": true, "kubernetes": true, "127.0.0.1": true, "localhost": true, "198.51.100.2": false} {
		if err := pair.Leaf.VerifyHostname(host); (err == nil) != ok {
			t.Errorf("VerifyHostname(%s) = %v, want it to be a name: %v", host, err, ok)
		}
	}
	other, err := authority.New()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: other.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err == nil {
		t.Error("Verify() with another authority = nil, want an error")
	}
	block, _ := pem.Decode(ca.PEM())
	if self, err := x509.ParseCertificate(block.Bytes); err != nil || !self.IsCA {
		t.Errorf("PEM() is no authority's certificate: %v", err)
	}
}

func TestServiceAccountKeysAreAPair(t *testing.T) {
	private, public, err := authority.NewServiceAccountKey()
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(private)
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	block, _ = pem.Decode(public)
	half, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if p, ok := half.(*ecdsa.PublicKey); !ok || !p.Equal(key.Public()) {
		t.Error("the public key is not the private key's")
	}
}
