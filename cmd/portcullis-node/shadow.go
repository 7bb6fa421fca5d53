package main

import (
	"context"
	"iter"

	"github.com/portcullis-csi/portcullis/daemon"
	"github.com/portcullis-csi/portcullis/driver"
	"github.com/portcullis-csi/portcullis/policies"
)

// openCandidate makes what has the bundle of --policy-shadow compared. It is there
// before the policy in force, of which it has to know who owns the grants.
func (p *plugin) openCandidate(context.Context) error {
	if p.o.policy.Shadow == "" {
		return nil
	}
	c, err := p.o.policy.CandidateSource(version(), p.o.development.allowsUnsigned())
	if err != nil {
		return err
	}
	c.Active, c.Logger = p.activePolicy, p.logger
	c.Trial = func(digest string) (func(), error) { return p.inForce.Load().Trial(digest) }
	c.Live = func() iter.Seq2[string, string] { return p.records.Volumes() }
	if p.candidate, err = daemon.NewCandidate(c); err != nil {
		return err
	}
	p.closers = append(p.closers, p.candidate.Close)
	return nil
}

// activePolicy is the engine in force. The first report of policy comes before
// there is a source to ask.
func (p *plugin) activePolicy() *policies.Engine {
	if policy := p.inForce.Load(); policy != nil {
		return policy.Active()
	}
	return nil
}

// compare has the driver's decisions compared with those of the candidate, and root
// see what came of it.
func (p *plugin) compare(c *driver.Config) error {
	c.Decided = p.candidate.Observe
	p.audit.ServeShadow(p.candidate.Report)
	return p.candidate.Register(c.Meter)
}
