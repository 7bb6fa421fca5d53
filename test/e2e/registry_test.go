//go:build e2e

package e2e_test

import (
	"crypto/tls"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/portcullis-csi/portcullis/test/cluster/authority"
)

// Accounts of the registry, each with its own name as the password.
const (
	pipeline = "pipeline" // reads and writes
	reads    = "nodes"    // reads
)

// ociRegistry is one with TLS and accounts, in this process, at the node's address.
type ociRegistry struct {
	host string
	ca   []byte // certificate of its authority, in PEM

	mu       sync.Mutex
	requests map[string]int // by account and method
	refused  []string       // what an account may not
}

// registry starts one, which ends with the test.
func (w *world) registry() *ociRegistry {
	w.Helper()
	l, err := w.lab.Listen(w.Context(), "tcp", net.JoinHostPort(w.lab.NodeAddress(), "0"))
	if err != nil {
		w.Fatal(err)
	}
	a, err := authority.New()
	if err != nil {
		w.Fatal(err)
	}
	cert, key, err := a.Issue(pkix.Name{CommonName: "registry"}, w.lab.NodeAddress())
	if err != nil {
		w.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		w.Fatal(err)
	}
	quiet := log.New(io.Discard, "", 0)
	r := &ociRegistry{host: l.Addr().String(), ca: a.PEM(), requests: map[string]int{}}
	s := &http.Server{
		Handler: r.accounts(registry.New(registry.Logger(quiet), registry.WithReferrersSupport(true))), ErrorLog: quiet, ReadHeaderTimeout: time.Minute,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13},
	}
	go func() { _ = s.ServeTLS(l, "", "") }()
	w.Cleanup(func() { _ = s.Close() })
	return r
}

// accounts lets each account do what it may.
func (r *ociRegistry) accounts(next http.Handler) http.Handler {
	return http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		user, password, _ := in.BasicAuth()
		reading := in.Method == http.MethodGet || in.Method == http.MethodHead
		known := user == password && (user == pipeline || user == reads)
		r.mu.Lock()
		r.requests[user+" "+in.Method]++
		if known && user == reads && !reading {
			r.refused = append(r.refused, in.Method+" "+in.URL.Path)
		}
		r.mu.Unlock()
		switch {
		case !known:
			out.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			out.WriteHeader(http.StatusUnauthorized)
		case user == reads && !reading:
			out.WriteHeader(http.StatusForbidden)
		default:
			next.ServeHTTP(out, in)
		}
	})
}

// login writes what docker login does for an account, and returns the directory.
func (w *world) login(r *ociRegistry, account string) (dir string) {
	w.Helper()
	auth := map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte(account + ":" + account))}
	text, err := json.Marshal(map[string]any{"auths": map[string]any{r.host: auth}})
	if err != nil {
		w.Fatal(err)
	}
	dir = filepath.Join(w.dir, "docker-"+account)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		w.Fatal(err)
	}
	w.writeFile(filepath.Join(dir, "config.json"), string(text))
	return dir
}
