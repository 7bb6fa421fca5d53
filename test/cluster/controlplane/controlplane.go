package controlplane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/client-go/rest"

	"github.com/portcullis-csi/portcullis/test/cluster/authority"
)

// Issuer is in every service account token of the cluster.
const Issuer = "https://kubernetes.default.svc.cluster.local"

// startTimeout bounds a start on a machine that is busy.
const startTimeout = 90 * time.Second

// Config of a control plane. The zero value is complete.
type Config struct {
	// Args are flags of kube-apiserver that take the place of the ones given
	// here, or are added to them: "--name=value".
	Args []string
}

// ControlPlane is a running etcd and kube-apiserver.
type ControlPlane struct {
	dir       string // private: keys, sockets, logs
	programs  string
	authority *authority.Authority
	port      int
	args      []string
	etcd      *process
	apiserver *process
	admin     *rest.Config
}

// Start starts a control plane from the programs that Build has made, and
// returns once the API server is ready.
func Start(ctx context.Context, programs string, config Config) (*ControlPlane, error) {
	// Paths of sockets are at most 108 bytes, so not below a test's directory.
	dir, err := os.MkdirTemp("", "cp")
	if err != nil {
		return nil, err
	}
	c := &ControlPlane{dir: dir, programs: programs, args: config.Args}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

func (c *ControlPlane) start(ctx context.Context) error {
	var err error
	if c.authority, err = authority.New(); err != nil {
		return err
	}
	if err := c.writeFiles(); err != nil {
		return err
	}
	if c.etcd, err = c.run(etcd, c.etcdArgs()...); err != nil {
		return err
	}
	return c.startFirst(ctx)
}

func (c *ControlPlane) writeFiles() error {
	serving, servingKey, err := c.authority.Issue(pkix.Name{CommonName: "kube-apiserver"}, "kubernetes.default.svc")
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{"ca.crt": c.authority.PEM(), "apiserver.crt": serving, "apiserver.key": servingKey} {
		if err := c.write(name, content); err != nil {
			return err
		}
	}
	return c.NewServiceAccountKey("sa")
}

func (c *ControlPlane) etcdArgs() []string {
	client, peer := "unix://"+c.path("etcd.sock"), "unix://"+c.path("peer.sock")
	return []string{
		"--name=test", "--data-dir=" + c.path("etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=test=" + peer,
	}
}

// startFirst finds a free port. Somebody else may take it in between, so it
// tries again.
func (c *ControlPlane) startFirst(ctx context.Context) error {
	var err error
	for range 3 {
		if c.port, err = freePort(ctx); err != nil {
			return err
		}
		if c.admin, err = c.ClientCertificate("admin", "system:masters"); err != nil {
			return err
		}
		if err = c.StartAPIServer(ctx); err == nil {
			return nil
		}
		if c.etcd.ended() || !strings.Contains(err.Error(), "address already in use") {
			return err
		}
	}
	return err
}

func freePort(ctx context.Context) (int, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(port)
}

// StartAPIServer starts the API server, at the same address as before, and
// returns once it is ready. Extra flags count for this start only.
func (c *ControlPlane) StartAPIServer(ctx context.Context, extra ...string) error {
	p, err := c.run(apiserver, overridden(c.apiserverArgs(), slices.Concat(c.args, extra))...)
	if err != nil {
		return err
	}
	c.apiserver = p
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := c.waitReady(ctx, p); err != nil {
		p.kill()
		return fmt.Errorf("kube-apiserver is not ready: %w; it said:\n%s\netcd said:\n%s", err, p.tail(), c.etcd.tail())
	}
	return nil
}

func (c *ControlPlane) apiserverArgs() []string {
	return []string{
		"--etcd-servers=unix://" + c.path("etcd.sock"), "--bind-address=127.0.0.1", "--secure-port=" + strconv.Itoa(c.port),
		"--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none", "--service-cluster-ip-range=203.0.113.0/24",
		"--cert-dir=" + c.dir, "--tls-cert-file=" + c.path("apiserver.crt"), "--tls-private-key-file=" + c.path("apiserver.key"),
		"--client-ca-file=" + c.path("ca.crt"), "--service-account-issuer=" + Issuer,
		"--service-account-key-file=" + c.path("sa.pub"), "--service-account-signing-key-file=" + c.path("sa.key"),
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true", "--profiling=false",
	}
}

// overridden returns args with those of the same name replaced by others'.
func overridden(args, others []string) []string {
	var kept []string
	for _, a := range args {
		name, _, _ := strings.Cut(a, "=")
		if !slices.ContainsFunc(others, func(o string) bool { return o == name || strings.HasPrefix(o, name+"=") }) {
			kept = append(kept, a)
		}
	}
	return append(kept, others...)
}

// waitReady asks until the API server says that it is ready, RBAC's default
// roles and the first namespaces included.
func (c *ControlPlane) waitReady(ctx context.Context, p *process) error {
	client, err := rest.HTTPClientFor(c.admin)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	for _, path := range []string{"/readyz", "/api/v1/namespaces/default", "/api/v1/namespaces/kube-system"} {
		for !c.answers(ctx, client, path) {
			select {
			case <-p.done:
				return fmt.Errorf("it ended: %w", p.err)
			case <-c.etcd.done:
				return fmt.Errorf("etcd ended: %w", c.etcd.err)
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

func (c *ControlPlane) answers(ctx context.Context, client *http.Client, path string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.admin.Host+path, nil)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// StopAPIServer ends the API server; etcd keeps what it holds.
func (c *ControlPlane) StopAPIServer() { c.apiserver.kill() }

// Admin is the configuration of a client that may do everything.
func (c *ControlPlane) Admin() *rest.Config { return rest.CopyConfig(c.admin) }

// ClientCertificate is the configuration of a user with these groups.
func (c *ControlPlane) ClientCertificate(user string, groups ...string) (*rest.Config, error) {
	cert, key, err := c.authority.Issue(pkix.Name{CommonName: user, Organization: groups})
	if err != nil {
		return nil, err
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		return nil, err
	}
	config := c.anonymous()
	config.CertData, config.KeyData = cert, key
	return config, nil
}

// WithToken is the configuration of the holder of a token.
func (c *ControlPlane) WithToken(token string) *rest.Config {
	config := c.anonymous()
	config.BearerToken = token
	return config
}

// anonymous is a client that only knows the API server. Tests do not wait for
// client-go's own rate limit.
func (c *ControlPlane) anonymous() *rest.Config {
	return &rest.Config{
		Host: "https://127.0.0.1:" + strconv.Itoa(c.port), QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{CAData: c.authority.PEM()},
	}
}

// Pool trusts the cluster's certificate authority.
func (c *ControlPlane) Pool() *x509.CertPool { return c.authority.Pool() }

// NewServiceAccountKey writes a new pair of keys that service account tokens
// are signed and verified with: <name>.key and <name>.pub.
func (c *ControlPlane) NewServiceAccountKey(name string) error {
	private, public, err := authority.NewServiceAccountKey()
	if err != nil {
		return err
	}
	if err := c.write(name+".key", private); err != nil {
		return err
	}
	return c.write(name+".pub", public)
}

func (c *ControlPlane) write(name string, content []byte) error {
	return os.WriteFile(c.path(name), content, 0o600)
}

func (c *ControlPlane) path(name string) string { return filepath.Join(c.dir, name) }

// Logs are the last lines of both programs.
func (c *ControlPlane) Logs() string {
	var b strings.Builder
	for _, p := range []*process{c.etcd, c.apiserver} {
		if p != nil {
			fmt.Fprintf(&b, "--- %s\n%s\n", p.name, p.tail())
		}
	}
	return b.String()
}

// Path is a file of the control plane's directory: ca.crt, sa.key, sa.pub, ...
func (c *ControlPlane) Path(name string) string { return c.path(name) }

// Stop ends both programs and removes what they wrote.
func (c *ControlPlane) Stop() error {
	if c.apiserver != nil && !c.apiserver.ended() {
		c.apiserver.kill()
	}
	if c.etcd != nil && !c.etcd.ended() {
		c.etcd.kill()
	}
	return os.RemoveAll(c.dir)
}
