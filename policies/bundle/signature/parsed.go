package signature

import (
	"context"
	"errors"
	"fmt"
	"strings"

	sgbundle "github.com/sigstore/sigstore-go/pkg/bundle"

	"github.com/sigstore/cosign/v2/pkg/cosign"
	"github.com/sigstore/cosign/v2/pkg/oci"
)

// Bounds within one signature. Certificates and timestamps hold keys of other
// people's choice, and to check one takes time that grows with its square.
const (
	maxCertificateBytes = 16 << 10
	maxTimestampBytes   = 16 << 10
	maxProofs           = 4 // entries of a log, and timestamps
	maxBase64Bytes      = 4 << 10
)

// parsed is a signature that could be read. Nothing of it is verified.
type parsed struct {
	bundle *sgbundle.Bundle // or else
	oci    oci.Signature    // the classic format

	certified           bool   // signed with a certificate's key
	entries, timestamps int    // what comes along to prove it
	raw, timestamp      []byte // classic
	kind                string // classic, of a manifest: what the payload says it is
	sum                 []byte // of a bundle: SHA-256 of what it says it is of
}

// parse reads one signature, in whichever format it is.
func parse(c content, s Signature) (*parsed, *Error) {
	if size := s.size(); size > MaxSignatureBytes {
		return nil, refuse(TooLarge, fmt.Sprintf("%d bytes", size))
	}
	var p *parsed
	err := guard(func() (err error) {
		switch {
		case len(s.Bundle) > 0 && s.Base64 == "":
			p, err = parseBundle(c, s)
		case len(s.Bundle) == 0 && s.Base64 != "":
			p, err = parseClassic(c, s)
		default:
			err = errors.New("it is in neither of the two formats")
		}
		return err
	})
	if err == nil {
		return p, nil
	}
	if refused, ok := errors.AsType[*Error](err); ok {
		return nil, refused
	}
	return nil, refuse(Malformed, err.Error())
}

func (s Signature) size() int {
	return len(s.Bundle) + len(s.Base64) + len(s.Payload) + len(s.Certificate) + len(s.Chain) + len(s.RekorBundle) + len(s.Timestamp)
}

// verify has cosign verify the signature in one way of one signer.
func (p *parsed) verify(ctx context.Context, c content, way *cosign.CheckOpts) error {
	if p.bundle != nil {
		return p.verifyBundle(ctx, c, way)
	}
	return p.verifyClassic(ctx, c, way)
}

// What a signature may be that is verified: right, but not what is asked for.
var errNotSignature = errors.New("it is an attestation")

// errTimestamp is a timestamp of none of the root's authorities.
var errTimestamp = errors.New("the timestamp is of none of the root's authorities, or of another signature")

// reasonOf sorts an error of the libraries. They have no types for it; the tests
// hold what each case is sorted as. The first that fits counts, as the libraries
// check one after the other.
func reasonOf(err error, p *parsed) *Error {
	switch {
	case errors.Is(err, errTransplanted):
		return refuse(Transplanted, "")
	case errors.Is(err, errNotSignature):
		return refuse(NotSignature, err.Error())
	case errors.Is(err, errTimestamp):
		return refuse(Time, err.Error())
	case errors.Is(err, errPanic):
		return refuse(Malformed, err.Error())
	case !p.certified:
		return refuse(WrongKey, "")
	}
	for _, sorted := range []struct {
		words  string
		reason Reason
	}{
		{"integrated time outside certificate validity", Time},
		{"failed to verify log inclusion", Log},
		{"error verifying bundle", Log},
		{"offline verification failed", Log},
		{"failed to verify timestamps", Time},
		{"failed to verify leaf certificate", Certificate},
		{"none of the expected identities", WrongSigner},
		{"failed to verify certificate identity", WrongSigner},
		{"checking expiry", Time},
		{"signed timestamp", Time},
	} {
		if strings.Contains(err.Error(), sorted.words) {
			return refuse(sorted.reason, err.Error())
		}
	}
	return refuse(Certificate, err.Error())
}
