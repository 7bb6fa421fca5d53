package certificates

import (
	"crypto/x509"
	"time"
)

// Replica is a Secret and a configuration without a cluster, at a time of its own.
type Replica struct {
	Now   time.Time
	Live  []*x509.Certificate // what the configuration trusts
	Data  map[string][]byte   // of the Secret
	Lives Lifetimes
	names []string
}

// NewReplica has nothing yet.
func NewReplica(now time.Time, names []string) *Replica {
	return &Replica{Now: now, Lives: Lifetimes{}.complete(), names: names}
}

// Step does one step on Secret and configuration, and says which.
func (r *Replica) Step() (string, error) {
	l := look{now: r.Now, names: r.names, lives: r.Lives, live: r.Live}
	s, err := parseState(r.Data, r.names)
	done := stepNew
	if err != nil {
		s, err = l.begin()
	} else {
		s, done, err = l.advance(s)
	}
	if err != nil {
		return "", err
	}
	if done != stepNone {
		if r.Data, err = s.render(r.Data); err != nil {
			return "", err
		}
	}
	r.Live = s.trusted()
	return string(done), nil
}

// Steps does all that is due.
func (r *Replica) Steps() (steps []string, err error) {
	for {
		s, err := r.Step()
		if err != nil || s == "" {
			return steps, err
		}
		steps = append(steps, s)
	}
}

// Serving returns the certificate of the Secret, or why there is none.
func (r *Replica) Serving() (*x509.Certificate, error) {
	s, err := parseState(r.Data, r.names)
	if err != nil {
		return nil, err
	}
	if s.serving == nil {
		return nil, errNothing
	}
	return s.serving.cert, nil
}

// Problem says what is wrong with the Secret.
func (r *Replica) Problem() error {
	_, err := parseState(r.Data, r.names)
	return err
}

// Clock is what a replica takes the API servers' clock for.
type Clock struct{ c clock }

// Told takes the time of an answer that came at here.
func (c *Clock) Told(now, here time.Time) { c.c.told(now, here) }

// Now returns the time at here, and whether it is certain.
func (c *Clock) Now(here time.Time) (time.Time, bool) { return c.c.now(here) }
