package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// DefaultTimeout bounds an operation whose Config says nothing.
const DefaultTimeout = time.Minute

// Config is how a Client reaches registries.
type Config struct {
	// CredentialsFile is a docker config.json. It is read at each operation, and
	// credential helpers in it are not run. May be empty: then requests are
	// anonymous.
	CredentialsFile string
	// CA holds certificates in PEM that are trusted besides the system's. May be
	// empty.
	CA []byte
	// SignatureRepository is host/repository where signatures are looked for too,
	// and attached instead of beside the bundle (cosign's COSIGN_REPOSITORY). May
	// be empty.
	SignatureRepository string
	// PlainHTTP allows to speak to the registry of a reference without TLS. A
	// loopback address needs no permission.
	PlainHTTP bool
	// Timeout bounds each operation as a whole. 0 stands for DefaultTimeout.
	Timeout time.Duration
	// UserAgent is how the Client introduces itself. May be empty.
	UserAgent string
	// Proxy is that of http.Transport. Nil: no proxy, whatever the environment
	// says.
	Proxy func(*http.Request) (*url.URL, error)
}

// Client speaks to registries. It is safe for concurrent use.
type Client struct {
	config     Config
	signatures Reference // zero: beside the bundle
	base       *http.Transport

	mu       sync.Mutex
	sessions map[sessionKey]*session
}

// New returns a Client. It asks nothing yet.
func New(c Config) (*Client, error) {
	if c.Timeout <= 0 {
		c.Timeout = DefaultTimeout
	}
	if c.UserAgent == "" {
		c.UserAgent = "portcullis"
	}
	client := &Client{config: c, sessions: map[sessionKey]*session{}}
	if c.SignatureRepository != "" {
		var err error
		if client.signatures, err = parseRepository(c.SignatureRepository); err != nil {
			return nil, fmt.Errorf("signature repository: %w", err)
		}
	}
	trusted, err := roots(c.CA)
	if err != nil {
		return nil, err
	}
	client.base = &http.Transport{
		Proxy:                  c.Proxy,
		DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: trusted},
		TLSHandshakeTimeout:    10 * time.Second,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    2,
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: maxHeaders,
		// What is compressed on the way would be bounded before it is unpacked,
		// and digests are over what is sent.
		DisableCompression: true,
	}
	return client, nil
}

func roots(ca []byte) (*x509.CertPool, error) {
	if len(ca) == 0 {
		return nil, nil //nolint:nilnil // crypto/tls takes nil for the system's
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(ca) {
		return nil, errors.New("registry CA holds no certificate; hint: give one or more in PEM")
	}
	return pool, nil
}

// Close drops idle connections.
func (c *Client) Close() { c.base.CloseIdleConnections() }

// session is what has been agreed with a registry about one repository: scheme,
// and a token where there is one. It outlives an operation, so that a look at a
// tag costs one request.
type session struct {
	transport http.RoundTripper
	client    *http.Client
	repo      name.Repository
	helper    bool // credentials were left to a program that is not run
	guard     *guard
}

type sessionKey struct {
	host, repository, scope string
	auth                    authn.AuthConfig
}

// session returns that of a repository for a scope of transport.
func (c *Client) session(ctx context.Context, ref Reference, scope string) (*session, error) {
	found, err := c.credentialsFor(ref)
	if err != nil {
		return nil, err
	}
	key := sessionKey{ref.host, ref.repository, scope, found.config}
	c.mu.Lock()
	s := c.sessions[key]
	c.mu.Unlock()
	if s != nil && s.guard.challenges.Load() < freshChallenges {
		return s, nil
	}
	if s, err = c.connect(ctx, ref, scope, found); err != nil {
		return nil, withHelper(err, found.helper)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.sessions) >= maxSessions {
		clear(c.sessions) // credentials that rotate would pile up
	}
	c.sessions[key] = s
	return s, nil
}

const maxSessions = 16

func (c *Client) connect(ctx context.Context, ref Reference, scope string, found credentials) (*session, error) {
	var options []name.Option
	if c.config.PlainHTTP {
		options = append(options, name.Insecure)
	}
	registry, err := name.NewRegistry(ref.host, append(options, name.StrictValidation)...)
	if err != nil {
		return nil, err
	}
	// The registry's own host is the only one that may ever be asked without TLS.
	// A token server or a store that it names on another host has to have it.
	own := hostOf(ref.host)
	plain := c.config.PlainHTTP || loopback(ref.host)
	g := &guard{next: c.base, plain: func(host string) bool { return plain && hostOf(host) == own }}
	repo := registry.Repo(ref.repository)
	// A realm that the registry names gets the credentials, as with every client:
	// it could ask for them itself. The guard keeps that to TLS.
	t, err := transport.NewWithContext(ctx, registry, found.authenticator(), transport.NewUserAgent(g, c.config.UserAgent), []string{repo.Scope(scope)})
	if err != nil {
		return nil, err
	}
	return &session{
		transport: t, repo: repo, helper: found.helper, guard: g,
		client: &http.Client{Transport: t, CheckRedirect: func(_ *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return problemf(ReasonMalformed, "is it a registry?", "it redirects more than %d times", maxRedirects)
			}
			return nil
		}},
	}, nil
}

// forget drops the session of a repository whose token or credentials have turned
// out not to do.
func (c *Client) forget(err error) {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Reason == ReasonNotFound {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.sessions)
}

// withHelper tells whoever relies on a credential helper why it does not help.
func withHelper(err error, helper bool) error {
	if !helper {
		return err
	}
	p := classify(err)
	switch p.reason {
	case ReasonUnauthorized, ReasonForbidden, ReasonNotFound:
		clone := *p
		clone.hint = "the credentials file names a credential helper, and none is run: write the credentials themselves into auths"
		return &clone
	default:
		return err
	}
}

// operation bounds what follows in time and requests, and names it in its error.
func (c *Client) operation(ctx context.Context, ref Reference, doing string, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(withAllowance(ctx), c.config.Timeout)
	defer cancel()
	err := do(ctx)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		// A connection that is closed for that reason may look like a short answer.
		err = errors.Join(ctx.Err(), err)
	}
	err = fail(ref, doing, err)
	c.forget(err)
	return err
}
