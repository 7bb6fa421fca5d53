package certificates

import (
	"crypto/x509"
	"slices"
	"time"
)

// step names what advance did, for a line in the log.
type step string

const (
	stepNone    step = ""
	stepNew     step = "a new authority begins"
	stepNext    step = "the next authority is made"
	stepSeen    step = "the next authority is trusted"
	stepUnseen  step = "the next authority is not trusted any more"
	stepSwitch  step = "the next authority signs from now on"
	stepServing step = "the serving certificate is renewed"
	stepForget  step = "the old authority is not trusted any more"
	stepRestore step = "the Secret is as it was"
)

// look is what a replica knows when it takes the next step.
type look struct {
	now   time.Time // of the API server
	names []string
	lives Lifetimes
	live  []*x509.Certificate // what every webhook of the configuration trusts
}

// begin makes a state from nothing. What the configuration trusts was an earlier
// authority, by which other replicas may serve: it stays for a while.
func (l look) begin() (*state, error) {
	ca, err := newAuthority(l.now, l.lives.CA, l.names)
	if err != nil {
		return nil, err
	}
	s := &state{ca: ca}
	for _, c := range l.live {
		if l.now.Before(c.NotAfter) && len(s.old) < maxOld {
			s.old = append(s.old, c)
		}
	}
	if len(s.old) > 0 {
		s.until = l.now.Add(l.lives.Lost)
	}
	s.serving, err = ca.issue(l.now, l.lives.Serving, l.names)
	return s, err
}

// advance returns the state after the next step, or the same one where nothing is
// to be done. It changes nothing of what it was given.
func (l look) advance(was *state) (*state, step, error) {
	s := *was
	if !s.ca.valid(l.now) {
		if s.next == nil || !s.next.valid(l.now) {
			fresh, err := l.begin()
			return fresh, stepNew, err
		}
		// The other is worth nothing any more, so there is nothing to wait for.
		return l.change(&s)
	}
	switch {
	case s.next == nil && l.due(s.ca, l.lives.CA/3):
		var err error
		s.next, err = newAuthority(l.now, l.lives.CA, l.names)
		return &s, stepNext, err
	case s.next != nil && !l.trusts(s.next) && !s.since.IsZero():
		s.since = time.Time{}
		return &s, stepUnseen, nil
	case s.next != nil && l.trusts(s.next) && s.since.IsZero():
		s.since = l.now
		return &s, stepSeen, nil
	case s.next != nil && l.trusts(s.next) && l.now.Sub(s.since) >= l.lives.Settle:
		return l.change(&s)
	case s.serving == nil || !s.serving.valid(l.now) || l.due(s.serving, l.lives.Serving/2) && s.serving.cert.NotAfter.Before(s.ca.cert.NotAfter):
		var err error
		s.serving, err = s.ca.issue(l.now, l.lives.Serving, l.names)
		return &s, stepServing, err
	case len(s.old) > 0 && !l.now.Before(s.until):
		s.old, s.until = nil, time.Time{}
		return &s, stepForget, nil
	}
	return was, stepNone, nil
}

// change has the next authority sign. The other stays trusted for as long as
// anything that it signed.
func (l look) change(s *state) (*state, step, error) {
	serving, err := s.next.issue(l.now, l.lives.Serving, l.names)
	if err != nil {
		return nil, stepNone, err
	}
	s.old = append([]*x509.Certificate{s.ca.cert}, s.old...)
	s.old = s.old[:min(len(s.old), maxOld)]
	s.until = l.now.Add(l.lives.Serving)
	s.ca, s.serving, s.next, s.since = s.next, serving, nil, time.Time{}
	return s, stepSwitch, nil
}

// due reports whether so much of a life or less is left.
func (l look) due(p *pair, left time.Duration) bool {
	return !l.now.Before(p.cert.NotAfter.Add(-left))
}

func (l look) trusts(p *pair) bool { return slices.ContainsFunc(l.live, p.cert.Equal) }
