package registry

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
)

// The bounds of one operation.
const (
	// maxRequests is enough for a bundle with the most signatures that there can
	// be, each redirected.
	maxRequests  = 200
	maxRedirects = 5
	// maxBody bounds answers whose size nobody has promised: errors, tokens,
	// indexes of referrers.
	maxBody    = 1 << 20
	maxHeaders = 64 << 10
)

// The bounds of one session.
const (
	// maxChallenges is enough for tokens that end while a bundle is pulled.
	maxChallenges = 32
	// freshChallenges is after how many the next operation begins a new session.
	freshChallenges = 8
)

// allowance is what is left of an operation's requests, and how long the next
// answer may be.
type allowance struct{ requests atomic.Int64 }

type (
	allowanceKey struct{}
	bodyKey      struct{}
)

func withAllowance(ctx context.Context) context.Context {
	a := &allowance{}
	a.requests.Store(maxRequests)
	return context.WithValue(ctx, allowanceKey{}, a)
}

func withBody(ctx context.Context, most int64) context.Context {
	return context.WithValue(ctx, bodyKey{}, most)
}

// guard stands below everything that speaks to a registry: below redirects, the
// exchange of tokens and retries of go-containerregistry. So no answer leads to a
// request without TLS, and none is read without a bound.
type guard struct {
	next  http.RoundTripper
	plain func(host string) bool // whether a host may be asked without TLS
	// challenges are the answers that wanted other credentials. go-containerregistry
	// keeps each scope that one names, and asks for all of them each time.
	challenges atomic.Int64
}

// RoundTrip sends one request.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := g.refuse(req); err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	res, err := g.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode == http.StatusUnauthorized && g.challenges.Add(1) > maxChallenges {
		res.Header.Del("WWW-Authenticate") // then it is an answer like any other
	}
	most, ok := req.Context().Value(bodyKey{}).(int64)
	if !ok {
		most = maxBody
	}
	res.Body = &boundedBody{res.Body, most}
	return res, nil
}

func (g *guard) refuse(req *http.Request) error {
	a, ok := req.Context().Value(allowanceKey{}).(*allowance)
	if !ok || a.requests.Add(-1) < 0 {
		return problemf(ReasonTooLarge, "the registry leads from one request to the next: is it the one that you mean?", "it takes more than %d requests", maxRequests)
	}
	if req.URL.Scheme == "https" || req.URL.Scheme == "http" && g.plain(req.URL.Host) {
		return nil
	}
	return problemf(ReasonPlainHTTP, "give the registry TLS; plain http has to be allowed, and is then for the registry's own host",
		"it would go on unencrypted to %s", quote(req.URL.Host))
}

// boundedBody is an answer that may not be longer than a bound. An io.LimitedReader
// would let one that was cut there look complete.
type boundedBody struct {
	io.ReadCloser
	left int64
}

// Read reads within the bound.
func (b *boundedBody) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if int64(n) > b.left {
		n = int(b.left)
		err = problemf(ReasonTooLarge, "is there a bundle at that reference?", "it answers with more bytes than there can be")
	}
	b.left -= int64(n)
	return n, err
}
