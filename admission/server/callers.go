package server

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"
)

const (
	// callersAge is how old the authorities may be that a handshake goes by.
	callersAge = 10 * time.Second
	// maxCallersFile is far more than authorities take.
	maxCallersFile = 1 << 20
	keyFile        = "file"
	keyError       = "error"
)

// errCaller is told to nobody but the log: the other side sees an alert of TLS.
var errCaller = errors.New("the client certificate has none of the names of --client-names")

// Callers are those whose connections are taken: API servers that show a certificate.
// API servers show none unless their --admission-control-config-file says so.
type Callers struct {
	file   string
	names  []string
	logger *slog.Logger

	mu    sync.Mutex
	read  time.Time
	text  []byte
	known *x509.CertPool
}

// NewCallers takes certificates of one of the names (their common name) that an
// authority in the file has signed. The names must be there: the authority of a
// cluster also signs for its users and nodes. What is put into the file later counts
// within seconds; what cannot be read changes nothing.
func NewCallers(file string, names []string, logger *slog.Logger) (*Callers, error) {
	if len(names) == 0 || slices.Contains(names, "") || logger == nil {
		return nil, errors.New("configure callers: a name is empty, or names or logger are missing")
	}
	c := &Callers{file: file, names: slices.Clone(names), logger: logger}
	if err := c.load(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Callers) load() error {
	c.read = time.Now()
	text, err := readFile(c.file)
	if err != nil {
		return fmt.Errorf("read authorities of callers: %w", err)
	}
	if bytes.Equal(text, c.text) {
		return nil
	}
	known := x509.NewCertPool()
	if !known.AppendCertsFromPEM(text) {
		return fmt.Errorf("read authorities of callers: %q holds no certificate; hint: give --client-ca a file of PEM certificates", c.file)
	}
	c.text, c.known = text, known
	return nil
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name) //nolint:gosec // the flag names it
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxCallersFile))
}

// authorities returns them as the file has them, or as it had them last.
func (c *Callers) authorities() *x509.CertPool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.read) >= callersAge {
		if err := c.load(); err != nil {
			c.logger.Warn("authorities of callers stay as they were", slog.String(keyFile, c.file), slog.Any(keyError, err))
		}
	}
	return c.known
}

// verify is of tls.Config: it sees every connection, also one that is resumed. The
// handshake asks for a certificate and names no authority, since a client that does
// not find its own among those named shows none.
func (c *Callers) verify(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("no client certificate")
	}
	leaf := state.PeerCertificates[0]
	options := x509.VerifyOptions{Roots: c.authorities(), Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, more := range state.PeerCertificates[1:] {
		options.Intermediates.AddCert(more)
	}
	if _, err := leaf.Verify(options); err != nil {
		return fmt.Errorf("client certificate: %w", err)
	}
	if !slices.Contains(c.names, leaf.Subject.CommonName) {
		return errCaller
	}
	return nil
}
