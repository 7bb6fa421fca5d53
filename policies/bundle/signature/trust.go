package signature

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sigstore/cosign/v2/pkg/cosign"
	"github.com/sigstore/sigstore-go/pkg/root"
)

// Identity is that of a certificate, compared exactly.
type Identity struct {
	Issuer  string // who has confirmed it, an OpenID Connect issuer
	Subject string // an e-mail address, or the URI of a workflow
}

// String is how a signer is named in events: the name of a key begins with key:.
func (i Identity) String() string { return "identity:" + i.Issuer + " " + i.Subject }

// Config says who may vouch for a bundle. Everything in it is trusted.
type Config struct {
	Keys       []Key
	Identities []Identity
	// TrustedRoot is Sigstore's trusted_root.json: the certificate authorities, logs
	// and timestamp authorities that identities are proven with. Needed with
	// Identities, and refused without.
	TrustedRoot []byte
	// Threshold is how many of them have to sign, each a different one; 0 is 1.
	Threshold int
}

// Bounds of what is trusted: each signature is tried against each.
const (
	maxSigners       = 32
	maxRootBytes     = 1 << 20
	maxIdentityBytes = 1024
)

// Trust verifies artifacts. The zero Trust verifies none. It is safe for use by
// several goroutines.
type Trust struct {
	signers   []signer
	root      *rootFacts // nil without identities
	threshold int
}

// signer is one of those who may vouch: a key, or an identity.
type signer struct {
	name string
	// ways are options to verify with, for each way the signer may sign. The new
	// verifier takes one identity a time, and one key.
	ways     []cosign.CheckOpts
	identity bool
}

// rootFacts is a trusted root and what it holds.
type rootFacts struct {
	root.TrustedMaterial
	logs, timestamps, certificateLogs bool
}

// NewTrust checks who is to be trusted.
func NewTrust(c Config) (*Trust, error) {
	t := &Trust{threshold: max(c.Threshold, 1)}
	if len(c.Keys)+len(c.Identities) > maxSigners {
		return nil, fmt.Errorf("trust signers of policy: more than %d keys and identities; hint: leave those out that no longer sign", maxSigners)
	}
	seen := map[string]bool{}
	for _, key := range c.Keys {
		s, err := keySigner(key)
		if err != nil {
			return nil, fmt.Errorf("trust signers of policy: %w", err)
		}
		if seen[s.name] {
			return nil, fmt.Errorf("trust signers of policy: key %s is given twice; hint: one key counts once, whatever its file is called", s.name)
		}
		seen[s.name] = true
		t.signers = append(t.signers, s)
	}
	if err := t.addIdentities(c, seen); err != nil {
		return nil, fmt.Errorf("trust signers of policy: %w", err)
	}
	switch {
	case len(t.signers) == 0:
		return nil, errors.New("trust signers of policy: neither a key nor an identity is given; hint: give --policy-key, or --policy-identity with --policy-trusted-root")
	case c.Threshold < 0 || t.threshold > len(t.signers):
		return nil, fmt.Errorf("trust signers of policy: %d signatures are needed of %d signers; hint: need at least 1 and no more than there are keys and identities", c.Threshold, len(t.signers))
	}
	return t, nil
}

func keySigner(key Key) (signer, error) {
	public, parsed, err := parseKey(key.PEM)
	if err != nil {
		return signer{}, err
	}
	if key.ID != "" && key.ID != parsed.ID {
		return signer{}, fmt.Errorf("key %q is in truth %s; hint: use what ParseKey returns", key.ID, parsed.ID)
	}
	list, err := verifiers(public)
	if err != nil {
		return signer{}, err
	}
	s := signer{name: parsed.ID}
	for _, v := range list {
		s.ways = append(s.ways, cosign.CheckOpts{
			SigVerifier: v, ClaimVerifier: claim,
			// Who holds the key vouches; a log would vouch for publicity only, and
			// asking one is not for a node that starts without a network.
			IgnoreTlog: true, IgnoreSCT: true, Offline: true, MaxWorkers: 1,
			// Never nil: without it cosign asks its update framework for one.
			TrustedMaterial: &root.BaseTrustedMaterial{},
		})
	}
	return s, nil
}

func (t *Trust) addIdentities(c Config, seen map[string]bool) error {
	if len(c.Identities) == 0 {
		if len(c.TrustedRoot) > 0 {
			return errors.New("a trusted root is given without an identity; hint: give --policy-identity too, a root alone trusts everybody whom it certifies")
		}
		return nil
	}
	facts, err := readRoot(c.TrustedRoot)
	if err != nil {
		return err
	}
	t.root = facts
	for _, id := range c.Identities {
		if err := checkIdentity(id); err != nil {
			return err
		}
		if seen[id.String()] {
			return fmt.Errorf("identity %q is given twice; hint: one identity counts once", id)
		}
		seen[id.String()] = true
		t.signers = append(t.signers, signer{name: id.String(), identity: true, ways: []cosign.CheckOpts{{
			ClaimVerifier: claim, TrustedMaterial: facts, Offline: true, MaxWorkers: 1,
			Identities: []cosign.Identity{{Issuer: id.Issuer, Subject: id.Subject}},
			IgnoreSCT:  !facts.certificateLogs,
		}}})
	}
	return nil
}

func checkIdentity(id Identity) error {
	for _, text := range []string{id.Issuer, id.Subject} {
		// cosign takes an empty field for any.
		if text == "" || len(text) > maxIdentityBytes || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return fmt.Errorf("identity with issuer %q and subject %q is not exact; hint: give both as in the certificate, printable and without spaces; there are no patterns", id.Issuer, id.Subject)
		}
	}
	return nil
}

// readRoot reads a trusted root that can prove when something was signed: a
// certificate is valid for minutes, and its bundle is loaded for months.
func readRoot(text []byte) (*rootFacts, error) {
	const hint = "; hint: give the trusted_root.json of your Sigstore, as cosign trusted-root create writes it, or that of cosign's own update"
	switch {
	case len(text) == 0:
		return nil, errors.New("identities are given without a trusted root" + hint)
	case len(text) > maxRootBytes:
		return nil, fmt.Errorf("the trusted root has more than %d bytes%s", maxRootBytes, hint)
	}
	var material *root.TrustedRoot
	err := guard(func() (err error) {
		material, err = root.NewTrustedRootFromJSON(text)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read trusted root: %s%s", printable(err.Error()), hint)
	}
	facts := &rootFacts{
		TrustedMaterial: material, logs: len(material.RekorLogs()) > 0,
		timestamps: len(material.TimestampingAuthorities()) > 0, certificateLogs: len(material.CTLogs()) > 0,
	}
	switch {
	case len(material.FulcioCertificateAuthorities()) == 0:
		return nil, errors.New("the trusted root holds no certificate authority" + hint)
	case !facts.logs && !facts.timestamps:
		return nil, errors.New("the trusted root holds neither a transparency log nor a timestamp authority, so nothing proves when a certificate was used" + hint)
	}
	return facts, nil
}
