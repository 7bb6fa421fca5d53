package daemon

import (
	"bytes"
	"context"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
)

// CandidateSource is where the bundle of --policy-shadow comes from: with the trust of
// the one in force, but for the keys of break-glass, and without a memory, since
// nothing of it comes into force. version is that of the program. Of a
// CandidateConfig it sets Source and CloseSource.
func (o *PolicyFlags) CandidateSource(version string, allowUnsigned bool) (CandidateConfig, error) {
	if !o.signed() {
		return CandidateConfig{Source: bundle.Config{Verifier: bundle.Path(o.Shadow), AllowUnsigned: allowUnsigned}}, nil
	}
	regular, _, err := o.trusts()
	if err != nil {
		return CandidateConfig{}, err
	}
	f, client, err := o.fetcher(o.Shadow, version)
	if err != nil {
		return CandidateConfig{}, err
	}
	c := CandidateConfig{Source: bundle.Config{Verifier: &signedCandidate{fetcher: f, vouch: bundle.By(regular)}}}
	if client != nil {
		c.CloseSource = client.Close
	}
	return c, nil
}

// signedCandidate verifies a candidate each time that it changes. It is used by one
// attempt at a time.
type signedCandidate struct {
	fetcher bundle.Fetcher
	vouch   bundle.Vouch
	version string // of last
	last    policies.Bundle
}

// Load fetches only what is not the candidate already.
func (c *signedCandidate) Load(ctx context.Context) (policies.Bundle, error) {
	version, err := c.fetcher.Resolve(ctx)
	if err != nil {
		return policies.Bundle{}, err
	}
	if version == c.version {
		return c.last, nil
	}
	a, err := c.fetcher.Fetch(ctx, version)
	if err != nil {
		return policies.Bundle{}, err
	}
	signers, err := c.vouch(ctx, a)
	if err != nil {
		return policies.Bundle{}, err
	}
	b, err := bundle.ReadTarball(bytes.NewReader(a.Tarball))
	if err != nil {
		return policies.Bundle{}, err
	}
	b.Signed, b.Signers = true, signers
	c.version, c.last = version, b
	return b, nil
}
