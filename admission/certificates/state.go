package certificates

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Keys of the Secret. tls.crt and tls.key are named as everywhere, so that people
// and their tools find the serving certificate.
const (
	dataCA        = "ca.crt"
	dataCAKey     = "ca.key"
	dataServing   = "tls.crt"
	dataKey       = "tls.key"
	dataNext      = "next-ca.crt"
	dataNextKey   = "next-ca.key"
	dataNextSince = "next-ca.since"
	dataOld       = "old-ca.crt"
	dataOldUntil  = "old-ca.until"
)

// maxOld bounds how many certificates may stay trusted beside ours.
const maxOld = 4

// state is what the Secret says.
type state struct {
	ca      *pair // signs
	serving *pair // nil: to be made
	// next is trusted already, or about to be, and signs later.
	next  *pair
	since time.Time // when the configuration was seen to trust next; zero: not yet
	// old are trusted for those that still serve by them.
	old   []*x509.Certificate
	until time.Time // when they go
}

// errEmpty is a Secret that nobody has written yet.
var errEmpty = errors.New("holds no certificates yet")

// parseState reads the Secret's data. An error says that there is no authority in
// it; of the rest, what cannot be read is left out and made anew.
func parseState(data map[string][]byte, names []string) (*state, error) {
	if len(data[dataCA]) == 0 && len(data[dataCAKey]) == 0 && len(data[dataServing]) == 0 && len(data[dataKey]) == 0 {
		return nil, errEmpty
	}
	s := &state{}
	var err error
	if s.ca, err = decodeAuthority(data[dataCA], data[dataCAKey], names); err != nil {
		return nil, fmt.Errorf("%s %w", dataCA, err)
	}
	if serving, err := decode(data[dataServing], data[dataKey]); err == nil && serves(serving.cert, s.ca.cert, names) {
		s.serving = serving
	}
	if next, err := decodeAuthority(data[dataNext], data[dataNextKey], names); err == nil {
		s.next, s.since = next, parseTime(data[dataNextSince])
	}
	if old, err := decodeCertificates(data[dataOld]); err == nil && len(old) <= maxOld {
		s.old, s.until = old, parseTime(data[dataOldUntil])
	}
	return s, nil
}

var errNoAuthority = errors.New("is not an authority for this Service alone")

// decodeAuthority reads what newAuthority made for these names.
func decodeAuthority(cert, key []byte, names []string) (*pair, error) {
	p, err := decode(cert, key)
	if err != nil {
		return nil, err
	}
	if !p.cert.IsCA || p.cert.CheckSignatureFrom(p.cert) != nil || !slices.Equal(p.cert.PermittedDNSDomains, names) {
		return nil, errNoAuthority
	}
	return p, nil
}

// serves reports whether a certificate is one of ours for the Service.
func serves(cert, by *x509.Certificate, names []string) bool {
	return !cert.IsCA && cert.CheckSignatureFrom(by) == nil && slices.Equal(cert.DNSNames, names)
}

// parseTime returns the zero time for what is none.
func parseTime(text []byte) time.Time {
	t, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		return time.Time{}
	}
	return t
}

// render writes the state over data, whose other keys stay.
func (s *state) render(data map[string][]byte) (map[string][]byte, error) {
	all := map[string][]byte{}
	for k, v := range data {
		all[k] = v
	}
	for _, k := range []string{dataNext, dataNextKey, dataNextSince, dataOld, dataOldUntil} {
		delete(all, k)
	}
	for _, p := range []struct {
		pair      *pair
		cert, key string
	}{{s.ca, dataCA, dataCAKey}, {s.serving, dataServing, dataKey}, {s.next, dataNext, dataNextKey}} {
		if p.pair == nil {
			continue
		}
		var err error
		if all[p.cert], all[p.key], err = p.pair.encode(); err != nil {
			return nil, err
		}
	}
	if s.next != nil && !s.since.IsZero() {
		all[dataNextSince] = []byte(s.since.UTC().Format(time.RFC3339))
	}
	if len(s.old) > 0 {
		all[dataOld] = encodeCertificates(s.old...)
		all[dataOldUntil] = []byte(s.until.UTC().Format(time.RFC3339))
	}
	return all, nil
}

// trusted returns the certificates of the caBundle: of every serving certificate
// that some replica may still serve or may begin to.
func (s *state) trusted() []*x509.Certificate {
	all := []*x509.Certificate{s.ca.cert}
	if s.next != nil {
		all = append(all, s.next.cert)
	}
	for _, c := range s.old {
		if !slices.ContainsFunc(all, c.Equal) {
			all = append(all, c)
		}
	}
	return all
}
