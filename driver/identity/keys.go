package identity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// keysRefresh is how old keys get before they are read again, so that a
	// key that was withdrawn verifies nothing for longer than that.
	keysRefresh = 5 * time.Minute
	// keysMaxAge is how long keys stay good while they cannot be read again.
	// After that tokens cannot be judged, and nothing is granted or revoked.
	keysMaxAge = time.Hour
	// keysPause is the least time between two reads, however many tokens name
	// keys that nobody has heard of. A set that was read within it is the last
	// word on an unknown key. It is shorter than the ten seconds between the
	// two evaluations that must agree before a denial revokes: the second one
	// reads again.
	keysPause = 5 * time.Second
	// keysTimeout bounds one read, which no single caller can cut short.
	keysTimeout = 5 * time.Second
)

// objectKeys is what an UnavailableError calls the keys.
const objectKeys = "keys of service account tokens"

// KeySource reads what a cluster publishes about its service account tokens.
type KeySource interface {
	// JWKS returns the key set, as at /openid/v1/jwks.
	JWKS(ctx context.Context) ([]byte, error)
	// Issuer returns the issuer, as in /.well-known/openid-configuration.
	Issuer(ctx context.Context) (string, error)
}

// KeysConfig of Keys. Every field is required but where it says otherwise.
type KeysConfig struct {
	Source KeySource
	// APIAudiences are the API server's own audiences (its --api-audiences):
	// a token that kubelet asked for without an audience has one of them.
	// Absent: the issuer, which is the API server's default too.
	APIAudiences []string
	Clock        func() time.Time // absent: time.Now, whose readings no clock step moves
}

// Keys are the public keys with which the cluster's service account tokens are
// verified. They are read when they are first needed, when they are older than
// five minutes, and when a token names one that is not among them, but never
// twice within five seconds and never twice at the same time. Keys that cannot
// be read again stay good for an hour.
type Keys struct {
	c KeysConfig

	mu        sync.Mutex
	set       *keySet // nil before the first success
	attempted time.Time
	failure   error // of the last attempt
	flight    *flight
}

// keySet is what one read found; it never changes.
type keySet struct {
	keys     map[string]publicKey
	issuer   string
	former   string    // issuer before the current one
	formerTo time.Time // when that ends
	read     time.Time // when the read began
}

// flight is a read that goes on; its results are there when done is closed.
type flight struct {
	done chan struct{}
	set  *keySet
	err  error
}

// NewKeys returns Keys that have read nothing yet, or an error that names the
// missing field.
func NewKeys(c KeysConfig) (*Keys, error) {
	if c.Source == nil {
		return nil, errors.New("configure token keys: Source is missing")
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	c.APIAudiences = slices.Clone(c.APIAudiences)
	return &Keys{c: c}, nil
}

// current returns keys that are good now.
func (k *Keys) current(ctx context.Context) (*keySet, error) {
	k.mu.Lock()
	set := k.set
	k.mu.Unlock()
	if set != nil && !k.olderThan(set.read, keysRefresh) {
		return set, nil
	}
	fresh, err := k.refresh(ctx)
	switch {
	case err == nil:
		return fresh, nil
	case ctx.Err() == nil && set != nil && !k.olderThan(set.read, keysMaxAge):
		return set, nil
	default:
		return nil, err
	}
}

// latest returns keys of the last few seconds, or an error: what is not among
// them is not the cluster's.
func (k *Keys) latest(ctx context.Context) (*keySet, error) { return k.refresh(ctx) }

// refresh reads the keys, or waits for whoever does, or returns what the
// attempt that was just made came to.
func (k *Keys) refresh(ctx context.Context) (*keySet, error) {
	k.mu.Lock()
	f := k.flight
	if f == nil {
		if !k.attempted.IsZero() && !k.olderThan(k.attempted, keysPause) {
			defer k.mu.Unlock()
			if k.failure != nil {
				return nil, k.failure
			}
			return k.set, nil
		}
		f = &flight{done: make(chan struct{})}
		k.flight, k.attempted = f, k.c.Clock()
		// One caller's end must not fail the others.
		go k.run(context.WithoutCancel(ctx), f, k.set)
	}
	k.mu.Unlock()
	select {
	case <-f.done:
		return f.set, f.err
	case <-ctx.Done():
		return nil, &UnavailableError{Object: objectKeys, err: ctx.Err()}
	}
}

// run reads once. It ends by itself: the timeout bounds it.
func (k *Keys) run(ctx context.Context, f *flight, old *keySet) {
	ctx, cancel := context.WithTimeout(ctx, keysTimeout)
	defer cancel()
	set, err := k.fetch(ctx, old)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		f.err = &UnavailableError{Object: objectKeys, err: err}
	} else {
		f.set, k.set = set, set
	}
	k.failure, k.flight = f.err, nil
	close(f.done)
}

// fetch keeps to itself what kind of error the source had: a key set that is
// not found is no pod that is not found.
func (k *Keys) fetch(ctx context.Context, old *keySet) (set *keySet, err error) {
	defer func() {
		if recover() != nil { // no interceptor sees this goroutine
			set, err = nil, errors.New("the reader panicked")
		}
	}()
	began := k.c.Clock()
	issuer, err := k.c.Source.Issuer(ctx)
	if err != nil {
		return nil, fmt.Errorf("read issuer: %v", err) //nolint:errorlint // see above
	}
	if issuer == "" {
		return nil, errors.New("read issuer: it is empty")
	}
	text, err := k.c.Source.JWKS(ctx)
	if err != nil {
		return nil, fmt.Errorf("read key set: %v", err) //nolint:errorlint // see above
	}
	keys, err := parseKeySet(text)
	if err != nil {
		return nil, err
	}
	set = &keySet{keys: keys, issuer: issuer, read: began}
	set.succeed(old)
	return set, nil
}

// succeed keeps the issuer that this one takes the place of for an hour: an API
// server that changes its issuer goes on accepting the old one, and kubelet
// goes on handing over tokens of it until they expire.
func (s *keySet) succeed(old *keySet) {
	switch {
	case old == nil:
	case old.issuer != s.issuer:
		s.former, s.formerTo = old.issuer, s.read.Add(keysMaxAge)
	default:
		s.former, s.formerTo = old.former, old.formerTo
	}
}

// issuers are those whose tokens are accepted.
func (s *keySet) issuers(now time.Time) []string {
	if s.former == "" || !now.Before(s.formerTo) {
		return []string{s.issuer}
	}
	return []string{s.issuer, s.former}
}

// audiences are those of which a token for this audience must have one.
func (k *Keys) audiences(audience string, s *keySet) []string {
	switch {
	case audience != "":
		return []string{audience}
	case len(k.c.APIAudiences) > 0:
		return k.c.APIAudiences
	default:
		return s.issuers(k.c.Clock())
	}
}

// olderThan counts a time that lies ahead as infinitely old: a clock that was
// set back must not make keys young.
func (k *Keys) olderThan(t time.Time, age time.Duration) bool {
	passed := k.c.Clock().Sub(t)
	return passed < 0 || passed >= age
}
