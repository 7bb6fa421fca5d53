package providertest

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// DefaultName is the provider name of New.
const DefaultName = "local"

// Config of a Provider. The zero value, with a Handler, is a decent one.
type Config struct {
	Handler Handler
	Name    string      // of the provider; "" means DefaultName
	Dir     string      // of the socket; "" means a new one
	Mode    fs.FileMode // of the socket; 0 means 0600
	Owner   int         // of the socket file; 0 leaves it with who made it
	RunAs   int         // user that listens; 0 is the test's own
	// CutAfter closes each connection once so many bytes were written to it;
	// 0 never does.
	CutAfter int
	// APIVersion answers Version; "" means v1alpha1.
	APIVersion string
	// Version answers Version in place of APIVersion; may be nil.
	Version func(ctx context.Context, r *v1alpha1.VersionRequest) (*v1alpha1.VersionResponse, error)
	// Options for the gRPC server.
	Options []grpc.ServerOption
}

// Provider is a running provider.
type Provider struct {
	Dir  string // where its socket is
	Name string
	Path string // of the socket

	config  Config
	server  *grpc.Server
	written atomic.Int64
	asked   atomic.Int64

	mu          sync.Mutex
	calls       []*v1alpha1.MountRequest
	authorities []string
}

// New starts a decent provider with handler and stops it with the test.
func New(t testing.TB, handler Handler) *Provider {
	t.Helper()
	return Start(t, Config{Handler: handler})
}

// Start starts a provider and stops it with the test.
func Start(t testing.TB, c Config) *Provider {
	t.Helper()
	if c.Name == "" {
		c.Name = DefaultName
	}
	if c.Dir == "" {
		c.Dir = socketDir(t, c.RunAs)
	}
	p := &Provider{Dir: c.Dir, Name: c.Name, Path: filepath.Join(c.Dir, c.Name+".sock"), config: c}
	l, err := listen(p.Path, c.RunAs)
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	if err := p.dress(); err != nil {
		t.Fatalf("prepare socket: %v", errors.Join(err, l.Close()))
	}
	p.server = grpc.NewServer(c.Options...)
	v1alpha1.RegisterCSIDriverProviderServer(p.server, service{p: p})
	go p.serve(&cutListener{Listener: l, after: c.CutAfter, written: &p.written})
	t.Cleanup(p.Stop)
	return p
}

// serve ends with Stop, which is no error.
func (p *Provider) serve(l net.Listener) { _ = p.server.Serve(l) }

// dress gives the socket its mode and owner.
func (p *Provider) dress() error {
	mode := p.config.Mode
	if mode == 0 {
		mode = 0o600
	}
	if err := os.Chmod(p.Path, mode); err != nil {
		return err
	}
	if p.config.Owner == 0 {
		return nil
	}
	return os.Chown(p.Path, p.config.Owner, -1)
}

// Stop ends the provider at once, calls in progress included, and removes its
// socket.
func (p *Provider) Stop() { p.server.Stop() }

// Calls returns the requests so far.
func (p *Provider) Calls() []*v1alpha1.MountRequest {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*v1alpha1.MountRequest(nil), p.calls...)
}

// Written returns how many bytes were written to connections so far.
func (p *Provider) Written() int64 { return p.written.Load() }

// Asked returns how often Version was called so far.
func (p *Provider) Asked() int64 { return p.asked.Load() }

// Forget drops the requests so far, which would otherwise be the leak that a
// long test finds.
func (p *Provider) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls, p.authorities = nil, nil
}

// Authorities returns the :authority of each request so far.
func (p *Provider) Authorities() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.authorities...)
}

func (p *Provider) note(ctx context.Context, r *v1alpha1.MountRequest) {
	md, _ := metadata.FromIncomingContext(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, proto.CloneOf(r))
	p.authorities = append(p.authorities, md.Get(":authority")...)
}

// service is the gRPC side of a Provider.
type service struct {
	v1alpha1.UnimplementedCSIDriverProviderServer
	p *Provider
}

// Mount answers with the handler.
func (s service) Mount(ctx context.Context, r *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
	s.p.note(ctx, r)
	return s.p.config.Handler(ctx, r)
}

// Version answers with the configured version.
func (s service) Version(ctx context.Context, r *v1alpha1.VersionRequest) (*v1alpha1.VersionResponse, error) {
	s.p.asked.Add(1)
	if s.p.config.Version != nil {
		return s.p.config.Version(ctx, r)
	}
	v := s.p.config.APIVersion
	if v == "" {
		v = "v1alpha1"
	}
	return &v1alpha1.VersionResponse{Version: v, RuntimeName: "providertest", RuntimeVersion: "0.0.1"}, nil
}
