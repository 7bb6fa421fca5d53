package certificates

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

const (
	// backdate is how far the clock of one API server may be behind that of
	// another without a new certificate being not valid yet.
	backdate = time.Hour
	// serialBytes are random: two replicas may sign at the same moment.
	serialBytes = 16
)

// Lifetimes says how long things last. The zero value of each is a default.
type Lifetimes struct {
	CA      time.Duration // of an authority; a year
	Serving time.Duration // of a serving certificate; a week. It is renewed at half of that
	Settle  time.Duration // that an authority is trusted before it signs; an hour
	Lost    time.Duration // that a caBundle outlives the loss of its authority; ten minutes
	Look    time.Duration // between looks at Secret and configuration; half a minute
	Spread  time.Duration // until every API server has seen a changed caBundle; ten seconds
}

func (l Lifetimes) complete() Lifetimes {
	for _, d := range []struct {
		value *time.Duration
		def   time.Duration
	}{
		{&l.CA, 365 * 24 * time.Hour}, {&l.Serving, 7 * 24 * time.Hour}, {&l.Settle, time.Hour},
		{&l.Lost, 10 * time.Minute}, {&l.Look, 30 * time.Second}, {&l.Spread, 10 * time.Second},
	} {
		if *d.value == 0 {
			*d.value = d.def
		}
	}
	return l
}

// pair is a certificate and its key.
type pair struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// newAuthority makes an authority that can sign for these names and no others: it
// lies in a Secret, and whoever reads that must not become everybody.
func newAuthority(now time.Time, life time.Duration, names []string) (*pair, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	return sign(&x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "portcullis-webhook-ca-" + hex.EncodeToString(serial.Bytes()[:4])},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(life),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
		PermittedDNSDomainsCritical: true, PermittedDNSDomains: names,
	}, nil)
}

// issue signs a serving certificate, which ends no later than its authority.
func (p *pair) issue(now time.Time, life time.Duration, names []string) (*pair, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	end := now.Add(life)
	if end.After(p.cert.NotAfter) {
		end = p.cert.NotAfter
	}
	return sign(&x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "portcullis-webhook"},
		NotBefore: now.Add(-backdate), NotAfter: end,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, DNSNames: names,
	}, p)
}

// newSerial returns a positive number whose first byte is not zero.
func newSerial() (*big.Int, error) {
	b := make([]byte, serialBytes)
	if _, err := rand.Read(b); err != nil {
		return nil, fmt.Errorf("make serial number: %w", err)
	}
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b), nil
}

// sign makes a key and the certificate of it, signed by itself where there is no
// authority.
func sign(template *x509.Certificate, by *pair) (*pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	if by == nil {
		by = &pair{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, &key.PublicKey, by.key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read own certificate: %w", err)
	}
	return &pair{cert, key}, nil
}

// valid reports whether an API server whose clock says now takes the certificate.
func (p *pair) valid(now time.Time) bool {
	return !now.Before(p.cert.NotBefore) && now.Before(p.cert.NotAfter)
}

// tls returns what a handshake is made with.
func (p *pair) tls() *tls.Certificate {
	return &tls.Certificate{Certificate: [][]byte{p.cert.Raw}, PrivateKey: p.key, Leaf: p.cert}
}

const (
	blockCertificate = "CERTIFICATE"
	blockKey         = "PRIVATE KEY"
)

func encodeCertificates(certs ...*x509.Certificate) []byte {
	var text []byte
	for _, c := range certs {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: blockCertificate, Bytes: c.Raw})...)
	}
	return text
}

// encode returns certificate and key as PEM.
func (p *pair) encode() (cert, key []byte, err error) {
	der, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		return nil, nil, fmt.Errorf("encode key: %w", err)
	}
	return encodeCertificates(p.cert), pem.EncodeToMemory(&pem.Block{Type: blockKey, Bytes: der}), nil
}

// The errors hold no text of what was read, since that may be a key.
var (
	errNoCertificate = errors.New("holds no certificate")
	errNotOne        = errors.New("does not hold exactly one certificate")
	errNoKey         = errors.New("holds no ECDSA P-256 key")
	errOtherKey      = errors.New("its key is another certificate's")
)

// decode reads a pair that encode wrote.
func decode(cert, key []byte) (*pair, error) {
	certs, err := decodeCertificates(cert)
	if err != nil {
		return nil, err
	}
	if len(certs) != 1 {
		return nil, errNotOne
	}
	block, _ := pem.Decode(key)
	if block == nil || block.Type != blockKey {
		return nil, errNoKey
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	own, ok := parsed.(*ecdsa.PrivateKey)
	if err != nil || !ok || own.Curve != elliptic.P256() {
		return nil, errNoKey
	}
	if !own.PublicKey.Equal(certs[0].PublicKey) {
		return nil, errOtherKey
	}
	return &pair{certs[0], own}, nil
}

// decodeCertificates reads PEM that holds certificates and nothing else.
func decodeCertificates(text []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for len(text) > 0 {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		if block.Type != blockCertificate {
			return nil, errNoCertificate
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errNoCertificate
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errNoCertificate
	}
	return certs, nil
}
