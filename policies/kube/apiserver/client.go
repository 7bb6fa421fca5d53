package apiserver

import (
	"errors"
	"net"
	"net/http"
	"net/url"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
)

const (
	userAgent   = "portcullis"
	dialTimeout = 5 * time.Second
	keepAlive   = 15 * time.Second
)

var (
	errPlugin   = errors.New("the credentials come from a plugin (exec or auth-provider): no daemon starts another program; use a token file or a client certificate")
	errPlain    = errors.New("the address of the API server is not https: tokens would be sent in the clear; use its https address")
	errInsecure = errors.New("the API server's certificate would not be verified (insecure-skip-tls-verify): give its certificate authority")
)

// checkREST refuses what would send credentials to somebody else, or start a
// program.
func checkREST(c *rest.Config) error {
	base, _, err := rest.DefaultServerUrlFor(c)
	switch {
	case err != nil:
		return errors.New("the address of the API server is not a URL") // without it: it may hold a password
	case base.Scheme != "https":
		return errPlain
	case c.Insecure:
		return errInsecure
	case c.ExecProvider != nil || c.AuthProvider != nil:
		return errPlugin
	}
	return nil
}

// prepared is a copy with our own bounds: no limit of requests on this side (the
// API server has a fair one, and the upstream driver's publish mostly waits for
// its own), and no time limit, since a watch has none.
func prepared(c *rest.Config) *rest.Config {
	own := rest.CopyConfig(c)
	own.QPS, own.RateLimiter, own.Timeout = -1, nil, 0
	own.WarningHandler, own.WarningHandlerWithContext = rest.NoWarnings{}, nil
	own.ContentType, own.AcceptContentTypes = acceptJSON, acceptJSON
	if own.UserAgent == "" {
		own.UserAgent = userAgent
	}
	if own.Dial == nil && own.Transport == nil {
		// Also a transport of its own: reads and watches share no connection, and
		// reads can leave one that is stuck.
		own.Dial = (&net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}).DialContext
	}
	return own
}

// newClient returns the address of the API server and a client for single reads.
func newClient(c *rest.Config) (*url.URL, *http.Client, error) {
	own := prepared(c)
	base, _, err := rest.DefaultServerURL(own.Host, "/", schema.GroupVersion{}, true)
	if err != nil {
		return nil, nil, errors.New("the address of the API server is not a URL")
	}
	client, err := rest.HTTPClientFor(own)
	if err != nil {
		return nil, nil, err
	}
	client.CheckRedirect = noRedirect
	return base, client, nil
}

// noRedirect: whoever an answer points to would get the credentials.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
