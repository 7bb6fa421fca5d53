package signature

import (
	"context"
	"errors"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/sigstore/cosign/v2/pkg/cosign"
	"github.com/sigstore/cosign/v2/pkg/oci"
)

// Verified is who vouches for an artifact.
type Verified struct {
	// Signers are those who signed, each once and sorted, at least as many as needed:
	// the ID of a key, or "identity:", the issuer, a space and the subject.
	Signers []string
	// Digest is that of what they signed, the manifest or the tarball, as
	// sha256:<hex>.
	Digest string
}

// Verify returns who vouches for an artifact, or an *Error. It needs nothing but
// the artifact and what the Trust was made of.
func (t *Trust) Verify(ctx context.Context, a Artifact) (Verified, error) {
	if t == nil || len(t.signers) == 0 || t.threshold < 1 {
		return Verified{}, refuse(NoTrust, "")
	}
	c, refused := contentOf(a)
	if refused != nil {
		return Verified{}, refused
	}
	var worst *Error
	switch {
	case len(a.Signatures) == 0:
		worst = refuse(Unsigned, "")
	case len(a.Signatures) > MaxSignatures:
		worst = refuse(TooLarge, fmt.Sprintf("%d signatures", len(a.Signatures)))
	default:
		var signers []string
		signers, worst = t.signersOf(ctx, c, a.Signatures)
		if len(signers) >= t.threshold {
			return Verified{Signers: signers, Digest: c.digest}, nil
		}
		if len(signers) > 0 && worst.outweighs(Interrupted) {
			worst = &Error{Reason: TooFew, Signers: signers}
		}
	}
	worst.Digest, worst.Needed = c.digest, t.threshold
	return Verified{}, worst
}

// outweighs says whether an error, if any, is not that the time was over, which
// says nothing about the artifact.
func (e *Error) outweighs(r Reason) bool { return e == nil || e.Reason != r }

// signersOf returns who has signed, and the most telling reason why others were
// not found. A signature counts for one signer, and a signer once.
func (t *Trust) signersOf(ctx context.Context, c content, list []Signature) (names []string, worst *Error) {
	for i, s := range list {
		p, refused := parse(c, s)
		if refused == nil {
			var name string
			if name, refused = t.signerOf(ctx, c, p); refused == nil {
				names = append(names, name)
				continue
			}
		}
		if refused.Reason == Interrupted {
			return names, refused
		}
		if worst == nil || refused.Reason.rank() > worst.Reason.rank() {
			worst = refused
			if len(list) > 1 {
				worst.Detail = fmt.Sprintf("signature %d of %d: %s", i+1, len(list), worst.Detail)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), worst
}

// signerOf returns who has made one signature.
func (t *Trust) signerOf(ctx context.Context, c content, p *parsed) (string, *Error) {
	worst := refuse(WrongKey, "")
	if p.certified {
		worst = refuse(Certificate, "no identity is given")
	}
	for _, s := range t.signers {
		if s.identity != p.certified {
			continue
		}
		for _, way := range s.ways {
			if err := ctx.Err(); err != nil {
				return "", refuse(Interrupted, err.Error())
			}
			if s.identity {
				if refused := t.root.prove(&way, p); refused != nil {
					return "", refused
				}
			}
			err := guard(func() error { return p.verify(ctx, c, &way) })
			if err == nil {
				return s.name, nil
			}
			if refused := reasonOf(err, p); refused.Reason.rank() > worst.Reason.rank() || worst.Detail == "" {
				worst = refused
			}
		}
	}
	return "", worst
}

// prove says what a certificate's signature has to come with: whatever the root
// can check. The current time proves nothing, since a stolen key of an expired
// certificate would do; so something is always required.
func (r *rootFacts) prove(way *cosign.CheckOpts, p *parsed) *Error {
	way.IgnoreTlog, way.UseSignedTimestamps = !r.logs, r.timestamps && p.timestamps > 0
	switch {
	case r.logs && p.entries == 0:
		return refuse(Log, "it comes without an entry of the log")
	case !r.logs && !way.UseSignedTimestamps:
		return refuse(Time, "it comes without a timestamp")
	}
	return nil
}

// errTransplanted is what a signature is that is right, for something else.
var errTransplanted = errors.New("it is of something else")

// claim is cosign's check of what a classic signature is of. It runs after the
// signature was verified; without one, every signature fits every image.
func claim(s oci.Signature, h v1.Hash, annotations map[string]any) error {
	if err := cosign.SimpleClaimVerifier(s, h, annotations); err != nil {
		return fmt.Errorf("%w: %w", errTransplanted, err)
	}
	return nil
}

// guard turns a panic into an error: the libraries below have met few artifacts
// that were made to hurt.
func guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errPanic, r)
		}
	}()
	return f()
}

var errPanic = errors.New("it cannot be read")
