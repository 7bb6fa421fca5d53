package certificates

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"path/filepath"

	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
)

// Directory serves the certificate of a directory in which somebody else, such as
// cert-manager by way of a Secret, puts tls.crt and tls.key, and the next ones.
type Directory struct {
	watcher *certwatcher.CertWatcher
	logger  *slog.Logger
}

// OpenDirectory reads the certificate, which must be there.
func OpenDirectory(dir string, logger *slog.Logger) (*Directory, error) {
	watcher, err := certwatcher.New(filepath.Join(dir, dataServing), filepath.Join(dir, dataKey))
	if err != nil {
		return nil, fmt.Errorf("read serving certificate of --cert-dir %q: %w; hint: mount the Secret with %s and %s there, and see whether cert-manager has issued it", dir, err, dataServing, dataKey)
	}
	return &Directory{watcher, logger}, nil
}

// GetCertificate is of tls.Config.
func (d *Directory) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return d.watcher.GetCertificate(hello)
}

// Run takes what is put there from now on, until ctx ends. What cannot be read
// changes nothing.
func (d *Directory) Run(ctx context.Context) {
	if err := d.watcher.Start(ctx); err != nil && ctx.Err() == nil {
		d.logger.Error("serving certificate is no longer watched", slog.Any(keyError, err))
	}
}

// Failure returns nil: whether what is served is any good is what Served says.
func (d *Directory) Failure() error { return nil }
