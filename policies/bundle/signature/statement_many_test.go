//go:build !race

// One caller verifies as many signatures as there may be, one after the other: nothing for
// the race detector, which takes some ten times as long.

package signature_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature/signaturetest"
)

// TestHostileStatementsAreRefused: soon, and without harm to the process.
func TestHostileStatementsAreRefused(t *testing.T) {
	s := signaturetest.NewSigner(t)
	trust := signaturetest.Trust(t, 1, s)
	good := signaturetest.Forms()[0].Signed(t, tarball(t), s)
	digest := strings.TrimPrefix(signaturetest.Digest(good.Manifest), "sha256:")
	for name, statement := range hostileStatements(digest) {
		t.Run(name, func(t *testing.T) {
			text, err := json.Marshal(base64.StdEncoding.EncodeToString([]byte(statement)))
			if err != nil {
				t.Fatal(err)
			}
			bad := good
			bad.Signatures = nil
			for range signature.MaxSignatures {
				bad.Signatures = append(bad.Signatures, signature.Signature{Bundle: replace(t, good.Signatures[0].Bundle, "/dsseEnvelope/payload", text)})
			}
			began := time.Now()
			wantReason(t, trust, bad, signature.Malformed, signature.WrongKey, signature.Transplanted, signature.TooLarge)
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("Verify() of %d of them took %s", signature.MaxSignatures, took)
			}
			// The one that is right counts beside them.
			bad.Signatures[signature.MaxSignatures-1] = good.Signatures[0]
			if v, err := trust.Verify(t.Context(), bad); err != nil || len(v.Signers) != 1 {
				t.Errorf("Verify() with a good one = %v, %v, want its signer", v, err)
			}
		})
	}
}
