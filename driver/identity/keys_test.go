package identity_test

import (
	"context"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portcullis-csi/portcullis/driver/identity"
	"github.com/portcullis-csi/portcullis/policies/kube"
)

// judge returns why a token was not verified, or that it could not be judged.
func judge(t *testing.T, v *identity.Verifier, token string) string {
	t.Helper()
	_, err := v.Verify(t.Context(), with(tokens{"vault": token}))
	if e, ok := errors.AsType[*identity.UnavailableError](err); ok {
		if e.Object != "keys of service account tokens" {
			t.Errorf("UnavailableError.Object = %q, want the keys", e.Object)
		}
		return unavailable
	}
	return problem(t, v, tokens{"vault": token})
}

const unavailable = "unavailable"

// step is a change of the source, some time, and what comes of a token then.
type step struct {
	what    string
	after   time.Duration
	change  func(*source)
	signer  signer
	want    string
	fetches int // in all, so far
}

// run plays steps in a time of their own.
func run(t *testing.T, s *source, steps func() []step) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		v := verifier(t, clusterOf(pod(nil)), newKeys(t, s))
		for _, st := range steps() {
			time.Sleep(st.after)
			if st.change != nil {
				s.set(st.change)
			}
			if got := judge(t, v, st.signer.mint(apiClaims())); got != st.want {
				t.Errorf("%s: token judged %q, want %q", st.what, got, st.want)
			}
			if got := s.count(); got != st.fetches {
				t.Errorf("%s: %d fetches, want %d", st.what, got, st.fetches)
			}
		}
	})
}

func down(s *source) { s.down = errDown }
func up(s *source)   { s.down = nil }

func TestKeysAreReadWhenNeeded(t *testing.T) {
	key := p256(t, "k1")
	run(t, newSource(key), func() []step {
		return []step{
			{"first use", 0, nil, key, "", 1},
			{"again", 0, nil, key, "", 1},
			{"after four minutes", 4 * time.Minute, nil, key, "", 1},
			{"after five minutes", time.Minute, nil, key, "", 2},
			{"again", time.Second, nil, key, "", 2},
		}
	})
}

func TestKeysRotate(t *testing.T) {
	first, second := p256(t, "k1"), newRSA(t, "k2")
	publish := func(keys ...signer) func(*source) { return func(s *source) { s.keys = keys } }
	run(t, newSource(first), func() []step {
		return []step{
			{"first key", 0, nil, first, "", 1},
			{"second key is added and used at once", time.Minute, publish(first, second), second, "", 2},
			{"first key is good beside it", 0, nil, first, "", 2},
			{"first key is gone, and not yet noticed", time.Second, publish(second), first, "", 2},
			{"first key is gone", 5 * time.Minute, nil, first, unknownKey, 3},
			{"second key stays", 0, nil, second, "", 3},
		}
	})
}

// What a denial on an unknown key needs is a second evaluation ten seconds
// later: that one reads the keys again.
func TestASecondEvaluationTenSecondsLaterReadsAgain(t *testing.T) {
	first, second := p256(t, "k1"), p256(t, "k2")
	run(t, newSource(first), func() []step {
		return []step{
			{"keys are read", 0, nil, first, "", 1},
			{"a key that comes a second later", time.Second, func(s *source) { s.keys = append(s.keys, second) }, second, unknownKey, 1},
			{"ten seconds later", 10 * time.Second, nil, second, "", 2},
		}
	})
}

func TestASourceThatIsDown(t *testing.T) {
	key, unknown := p256(t, "k1"), p256(t, "k9")
	run(t, newSource(key), func() []step {
		return []step{
			{"never read", 0, down, key, unavailable, 0},
			{"no second try within seconds", 4 * time.Second, up, key, unavailable, 0},
			{"up", time.Second, nil, key, "", 1},
			{"down, keys are young", time.Minute, down, key, "", 1},
			{"down, nobody can tell whose an unknown key is", 0, nil, unknown, unavailable, 1},
			{"and the known ones are good still", 0, nil, key, "", 1},
			{"down for most of an hour", 58 * time.Minute, nil, key, "", 1},
			{"beyond the maximum age", time.Minute, nil, key, unavailable, 1},
			{"up again", time.Minute, up, key, "", 2},
			{"an unknown key is unknown again", 0, nil, unknown, unknownKey, 2},
		}
	})
}

func TestAnIssuerThatChanges(t *testing.T) {
	key := p256(t, "k1")
	s := newSource(key)
	synctest.Test(t, func(t *testing.T) {
		v := verifier(t, clusterOf(pod(nil)), newKeys(t, s))
		const later = "https://issuer.example/cluster"
		by := func(who string) string {
			return key.mint(apiClaims(func(c, _ map[string]any) { c["iss"] = who }))
		}
		if got := judge(t, v, by(later)); got != wrongIssuer {
			t.Errorf("before the change: %q, want %q", got, wrongIssuer)
		}
		time.Sleep(time.Minute)
		s.set(func(s *source) { s.issuer = later })
		if got := judge(t, v, by(later)); got != "" || s.count() != 2 {
			t.Errorf("after the change: %q after %d fetches, want verified after 2", got, s.count())
		}
		if got := judge(t, v, by(issuer)); got != "" {
			t.Errorf("token of the former issuer: %q, want verified", got)
		}
		time.Sleep(50 * time.Minute)
		if got := judge(t, v, by(issuer)); got != "" {
			t.Errorf("token of the former issuer, later: %q, want verified", got)
		}
		time.Sleep(11 * time.Minute)
		if got := judge(t, v, by(issuer)); got != wrongIssuer {
			t.Errorf("token of the former issuer after an hour: %q, want %q", got, wrongIssuer)
		}
	})
}

// Forged key ids cause no request each, and hold up nobody with a good token.
func TestAFloodOfUnknownKeys(t *testing.T) {
	key := p256(t, "k1")
	s := newSource(key)
	s.takes = 100 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		v := verifier(t, clusterOf(pod(nil)), newKeys(t, s))
		if got := judge(t, v, key.mint(apiClaims())); got != "" {
			t.Fatalf("good token: %q", got)
		}
		began := time.Now()
		var judged atomic.Int64
		var all sync.WaitGroup
		for i := range 200 {
			all.Go(func() {
				for n := range 30 {
					forged := signer{"ES256", fmt.Sprintf("forged-%d-%d", i, n), key.key}
					if got := judge(t, v, forged.mint(apiClaims())); got == unknownKey {
						judged.Add(1)
					}
					time.Sleep(time.Second)
				}
			})
		}
		all.Wait()
		if judged.Load() != 200*30 {
			t.Errorf("%d forged tokens were judged unknown, want all", judged.Load())
		}
		most := 2 + int(time.Since(began)/(5*time.Second))
		if got := s.count(); got > most || got < 2 {
			t.Errorf("%d fetches for 6000 forged key ids, want 2 to %d", got, most)
		}
	})
}

func TestOneFlightForAll(t *testing.T) {
	key := p256(t, "k1")
	s := newSource(key)
	s.takes = time.Second
	synctest.Test(t, func(t *testing.T) {
		v := verifier(t, clusterOf(pod(nil)), newKeys(t, s))
		// Whoever asks first gives up first, and takes nobody down.
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := v.Verify(ctx, with(tokens{"vault": key.mint(apiClaims())})); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Verify(short deadline) = %v, want its end", err)
			}
		})
		synctest.Wait()
		for range 50 {
			all.Go(func() {
				if got := judge(t, v, key.mint(apiClaims())); got != "" {
					t.Errorf("good token: %q, want verified", got)
				}
			})
		}
		all.Wait()
		if got := s.count(); got != 1 {
			t.Errorf("%d fetches, want 1", got)
		}
	})
}

func TestASourceThatHangs(t *testing.T) {
	key := p256(t, "k1")
	s := newSource(key)
	s.takes = time.Hour
	synctest.Test(t, func(t *testing.T) {
		v := verifier(t, clusterOf(pod(nil)), newKeys(t, s))
		began := time.Now()
		if got := judge(t, v, key.mint(apiClaims())); got != unavailable || time.Since(began) > 5*time.Second {
			t.Errorf("token judged %q after %v, want %q after five seconds", got, time.Since(began), unavailable)
		}
	})
}

func TestASourceThatPanics(t *testing.T) {
	key := p256(t, "k1")
	s := newSource(key)
	s.panics = true
	run(t, s, func() []step {
		return []step{
			{"panic", 0, nil, key, unavailable, 1},
			{"mended", 5 * time.Second, func(s *source) { s.panics = false }, key, "", 2},
		}
	})
}

// A key set that is not found is not a pod that is not found.
func TestAMissingKeySetIsNoMissingPod(t *testing.T) {
	key := p256(t, "k1")
	s := newSource(key)
	s.down = fmt.Errorf("/openid/v1/jwks: %w", kube.ErrNotFound)
	_, err := verifier(t, clusterOf(pod(nil)), newKeys(t, s)).Verify(t.Context(), with(tokens{"vault": key.mint(apiClaims())}))
	if _, ok := errors.AsType[*identity.UnavailableError](err); !ok || errors.Is(err, kube.ErrNotFound) {
		t.Errorf("Verify() = %v, want *UnavailableError that is not kube.ErrNotFound", err)
	}
}

// A clock that was set back or forward makes no key young and keeps none for
// longer.
func TestClockSteps(t *testing.T) {
	key := p256(t, "k1")
	s := newSource(key)
	var offset atomic.Int64
	clock := func() time.Time { return time.Now().Round(0).Add(time.Duration(offset.Load())) } // no monotonic reading
	k, err := identity.NewKeys(identity.KeysConfig{Source: s, Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	v, err := identity.New(identity.Config{Cluster: clusterOf(pod(nil)), Node: "node-a", DriverName: driverName, Keys: k, Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	now := func() string {
		return key.mint(apiClaims(at("exp", time.Duration(offset.Load())+time.Minute), at("nbf", time.Duration(offset.Load())), at("iat", time.Duration(offset.Load()))))
	}
	for _, st := range []struct {
		what    string
		offset  time.Duration
		change  func(*source)
		want    string
		fetches int
	}{
		{"start", 0, nil, "", 1},
		{"an hour forward", time.Hour, nil, "", 2},
		{"two hours back", -time.Hour, nil, "", 3},
		{"a year forward while down", 365 * 24 * time.Hour, down, unavailable, 3},
		{"back while down", -time.Hour + time.Second, nil, "", 3},
		{"further back while down", -2 * time.Hour, nil, unavailable, 3},
		{"further back, up again", -3 * time.Hour, up, "", 4},
	} {
		offset.Store(int64(st.offset))
		if st.change != nil {
			s.set(st.change)
		}
		if got := judge(t, v, now()); got != st.want || s.count() != st.fetches {
			t.Errorf("%s: token judged %q after %d fetches, want %q after %d", st.what, got, s.count(), st.want, st.fetches)
		}
	}
}

func TestKeySets(t *testing.T) {
	key, ec := newRSA(t, "k1"), p256(t, "k2")
	entry := func(s signer, changes ...any) string {
		m := s.jwk()
		for i := 0; i < len(changes); i += 2 {
			name, _ := changes[i].(string)
			if m[name] = changes[i+1]; changes[i+1] == nil {
				delete(m, name)
			}
		}
		return encode(m)
	}
	set := func(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	small := signer{"RS256", "k3", weak}
	p224 := func() string {
		return `{"kty":"EC","kid":"k4","crv":"P-224","x":"` + b64(make([]byte, 28)) + `","y":"` + b64(make([]byte, 28)) + `"}`
	}
	offCurve := entry(ec, "y", b64(make([]byte, 32)))
	many := make([]string, 65)
	for i := range many {
		many[i] = entry(ec, "kid", fmt.Sprint(i))
	}
	for name, c := range map[string]struct {
		text   string
		signer signer
		want   string
	}{
		"as published":                   {set(entry(key), entry(ec)), key, ""},
		"no algorithm, no use":           {set(entry(key, "alg", nil, "use", nil)), key, ""},
		"members that nobody knows":      {set(entry(key, "x-later", map[string]any{"a": 1})), key, ""},
		"the same key twice":             {set(entry(key), entry(key)), key, ""},
		"two keys of one id":             {set(entry(key), entry(ec, "kid", "k1")), key, unavailable},
		"a key of another type beside":   {set(entry(key), `{"kty":"OKP","kid":"k7","crv":"Ed25519","x":"`+b64(make([]byte, 32))+`"}`), key, ""},
		"a key to encrypt with":          {set(entry(key, "use", "enc"), entry(ec)), key, unknownKey},
		"a key of another algorithm":     {set(entry(key, "alg", "PS256"), entry(ec)), key, unknownKey},
		"a key with HS256":               {set(entry(key, "alg", "HS256"), entry(ec)), key, unknownKey},
		"an EC key for another curve":    {set(entry(ec, "alg", "ES384"), entry(key)), ec, unknownKey},
		"a key without an id":            {set(entry(key, "kid", nil), entry(ec)), key, unknownKey},
		"an id that is no text":          {set(entry(key, "kid", 1), entry(ec)), key, unknownKey},
		"a key that is too short":        {set(entry(small), entry(ec)), small, unknownKey},
		"a curve that nobody signs with": {set(p224(), entry(ec)), ec, unavailable},
		"a point off the curve":          {set(offCurve, entry(key)), ec, unavailable},
		"exponent 1":                     {set(entry(key, "e", "AQ"), entry(ec)), key, unknownKey},
		"a symmetric key":                {set(entry(key), `{"kty":"oct","kid":"k5","k":"c2VjcmV0"}`), key, unavailable},
		"a private key":                  {set(entry(key, "d", "AQAB")), key, unavailable},
		"a private key of another type":  {set(entry(key), `{"kty":"OKP","crv":"Ed25519","x":"AA","d":"AA"}`), key, unavailable},
		"a key that cannot be read":      {set(entry(key, "n", "!")), key, unavailable},
		"an RSA key without modulus":     {set(entry(key, "n", nil)), key, unavailable},
		"an RSA key with EC's name":      {set(entry(key, "kty", "EC")), key, unavailable},
		"no keys":                        {set(), key, unavailable},
		"keys null":                      {`{"keys":null}`, key, unavailable},
		"keys an object":                 {`{"keys":{}}`, key, unavailable},
		"Keys":                           {`{"Keys":[` + entry(key) + `]}`, key, unavailable},
		"two lists of keys":              {`{"keys":[],"keys":[` + entry(key) + `]}`, key, unavailable},
		"a single key":                   {entry(key), key, unavailable},
		"a list":                         {`[` + entry(key) + `]`, key, unavailable},
		"a key that is text":             {set(`"x"`), key, unavailable},
		"a page of HTML":                 {`<html>`, key, unavailable},
		"a Status":                       {`{"kind":"Status","code":403}`, key, unavailable},
		"64 keys":                        {set(append(many[:63:63], entry(key))...), key, ""},
		"65 keys":                        {set(many...), key, unavailable},
		"too large":                      {set(entry(key)) + strings.Repeat(" ", 256<<10), key, unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSource()
			s.text = c.text
			if got := judge(t, verifier(t, clusterOf(pod(nil)), newKeys(t, s)), c.signer.mint(apiClaims())); got != c.want {
				t.Errorf("token judged %q, want %q", got, c.want)
			}
		})
	}
}

func TestAMalformedKeySetKeepsTheOldKeys(t *testing.T) {
	key := newEC(t, "k1", elliptic.P384())
	run(t, newSource(key), func() []step {
		return []step{
			{"good", 0, nil, key, "", 1},
			{"malformed", 10 * time.Minute, func(s *source) { s.text = "{}" }, key, "", 2},
			{"an issuer that is empty", time.Minute, func(s *source) { s.text, s.issuer = "", "" }, key, "", 2},
			{"for longer than an hour", time.Hour, nil, key, unavailable, 2},
		}
	})
}

func TestNewKeysNamesTheMissingField(t *testing.T) {
	if _, err := identity.NewKeys(identity.KeysConfig{}); err == nil || !strings.Contains(err.Error(), "Source") {
		t.Errorf("NewKeys() = %v, want an error that names Source", err)
	}
}
