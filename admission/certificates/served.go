package certificates

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

const (
	// answerAge is how old an answer may be. Whoever asks for readiness, as often as
	// they like, must not ask the API server with it.
	answerAge = 5 * time.Second
	// answerTimeout bounds what readiness waits for.
	answerTimeout = 2 * time.Second
)

// ServedConfig says what Served compares. Every field is required.
type ServedConfig struct {
	REST          *rest.Config
	Address       net.Addr // of our own listener
	Namespace     string
	Service       string
	Configuration string
}

// Served compares what this process serves with what the live configuration trusts.
// Nothing else would show a difference in time: API servers keep the connections
// that they have, and fail when they make the next one.
type Served struct {
	c      ServedConfig
	client *client

	mu      sync.Mutex
	known   time.Time // when the answer came; zero: never
	hooks   []hook    // as they were last read
	failure error
}

// NewServed returns a Served, or an error that names what is missing.
func NewServed(c ServedConfig) (*Served, error) {
	if c.REST == nil || c.Address == nil || c.Namespace == "" || c.Service == "" || c.Configuration == "" {
		return nil, errors.New("configure check of certificates: a field is missing")
	}
	made, err := newClient(c.REST)
	if err != nil {
		return nil, fmt.Errorf("configure check of certificates: %w", err)
	}
	return &Served{c: c, client: made}, nil
}

// Err returns why API servers would not call this process, with a remedy. While the
// API server does not answer, what it said last counts.
func (s *Served) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known.IsZero() || time.Since(s.known) >= answerAge {
		s.failure = s.check()
		s.known = time.Now()
	}
	return s.failure
}

func (s *Served) check() error {
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	_, read, err := readHooks(ctx, s.client, s.c.Configuration, types.NamespacedName{Namespace: s.c.Namespace, Name: s.c.Service})
	status, answered := errors.AsType[*apierrors.StatusError](err)
	switch {
	case err == nil:
		s.hooks = read
	case errors.Is(err, errNotCalled), len(s.hooks) == 0, answered && status.ErrStatus.Code < http.StatusInternalServerError:
		return err
	}
	chain, err := s.handshake()
	if err != nil {
		return err
	}
	for _, h := range s.hooks {
		if err := s.verify(h, chain); err != nil {
			return err
		}
	}
	return nil
}

// handshake returns the certificates that our own listener shows.
func (s *Served) handshake() ([]*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	dialer := tls.Dialer{Config: &tls.Config{
		ServerName: Names(s.c.Service, s.c.Namespace)[0], MinVersion: tls.VersionTLS13,
		InsecureSkipVerify: true, //nolint:gosec // nothing is sent: the chain is what was asked for, and is verified below
	}}
	conn, err := dialer.DialContext(ctx, "tcp", local(s.c.Address))
	if err != nil {
		return nil, fmt.Errorf("ask own listener for its certificate: %w; hint: see the log for what became of the serving certificate", err)
	}
	defer conn.Close()
	secured, ok := conn.(*tls.Conn)
	if !ok {
		return nil, errors.New("own listener does not speak TLS")
	}
	return secured.ConnectionState().PeerCertificates, nil
}

// local is the address at which this host reaches a listener of its own.
func local(listener net.Addr) string {
	address, ok := listener.(*net.TCPAddr)
	if !ok || !address.IP.IsUnspecified() && address.IP != nil {
		return listener.String()
	}
	return (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: address.Port}).String()
}

// verify does what an API server does with the chain.
func (s *Served) verify(h hook, chain []*x509.Certificate) error {
	const hint = "; hint: see the log; if a caBundle is written by another hand, such as cert-manager's cainjector, it must be the one of this certificate"
	if len(h.certs) == 0 {
		return fmt.Errorf("webhook %s has no caBundle: API servers trust nobody to answer it%s", h.name, hint)
	}
	options := x509.VerifyOptions{
		DNSName: Names(s.c.Service, s.c.Namespace)[0], Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(),
		CurrentTime: s.client.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, c := range h.certs {
		options.Roots.AddCert(c)
	}
	for _, c := range chain[min(1, len(chain)):] {
		options.Intermediates.AddCert(c)
	}
	if len(chain) == 0 {
		return errors.New("own listener shows no certificate")
	}
	if _, err := chain[0].Verify(options); err != nil {
		return fmt.Errorf("webhook %s does not trust the certificate that is served: %w%s", h.name, err, hint)
	}
	return nil
}

// Expires returns when the certificate that is served ends; the zero time where
// there is none.
func (s *Served) Expires() time.Time {
	chain, err := s.handshake()
	if err != nil || len(chain) == 0 {
		return time.Time{}
	}
	return slices.MinFunc(chain, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) }).NotAfter
}
