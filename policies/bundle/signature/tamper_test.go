package signature_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature/signaturetest"
)

func tarball(t testing.TB) []byte {
	t.Helper()
	return signaturetest.Tarball(t,
		signaturetest.File{Name: ".manifest", Text: `{"roots":["portcullis"]}`},
		signaturetest.File{Name: "portcullis/checks/a.rego", Text: "package portcullis.checks.a\n"},
		signaturetest.File{Name: "portcullis/grants/data.json", Text: "{}"},
	)
}

// wantReason fails unless Verify refuses for one of some reasons, and says so in
// one printable line.
func wantReason(t *testing.T, trust *signature.Trust, a signature.Artifact, want ...signature.Reason) {
	t.Helper()
	v, err := trust.Verify(t.Context(), a)
	refused, ok := errors.AsType[*signature.Error](err)
	if !ok {
		t.Fatalf("Verify() = %v, %v, want an Error with one of %q", v, err, want)
	}
	if !slices.Contains(want, refused.Reason) {
		t.Errorf("Verify() = %q because of %v, want one of %q", refused.Reason, err, want)
	}
	if len(v.Signers) != 0 || v.Digest != "" {
		t.Errorf("Verify() = %v beside an error, want nothing", v)
	}
	text := err.Error()
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) || !strings.Contains(text, "; hint: ") || len(text) > 1000 {
		t.Errorf("Error() = %q, want one printable line with a hint", text)
	}
}

func TestASignedBundleIsVouchedFor(t *testing.T) {
	a, b, c := signaturetest.NewSigner(t), signaturetest.NewSigner(t), signaturetest.NewSigner(t)
	for _, form := range signaturetest.Forms() {
		t.Run(form.Name, func(t *testing.T) {
			signed := form.Signed(t, tarball(t), c, a, a)
			want := signature.Verified{Signers: []string{a.Key().ID, c.Key().ID}, Digest: signaturetest.Digest(signed.Tarball)}
			slices.Sort(want.Signers)
			if !form.Blob {
				want.Digest = signaturetest.Digest(signed.Manifest)
			}
			for _, threshold := range []int{0, 1, 2} {
				got, err := signaturetest.Trust(t, threshold, a, b, c).Verify(t.Context(), signed)
				if err != nil || !slices.Equal(got.Signers, want.Signers) || got.Digest != want.Digest {
					t.Errorf("Verify() with %d needed = %v, %v, want %v", threshold, got, err, want)
				}
			}
			wantReason(t, signaturetest.Trust(t, 3, a, b, c), signed, signature.TooFew)
			wantReason(t, signaturetest.Trust(t, 2, a, b), form.Signed(t, tarball(t), a, a, a), signature.TooFew)
			wantReason(t, signaturetest.Trust(t, 1, b), signed, signature.WrongKey)
			wantReason(t, new(signature.Trust), signed, signature.NoTrust)
			wantReason(t, nil, signed, signature.NoTrust)
		})
	}
}

func TestTamperingIsRefused(t *testing.T) {
	s := signaturetest.NewSigner(t)
	trust := signaturetest.Trust(t, 1, s)
	for _, form := range signaturetest.Forms() {
		t.Run(form.Name, func(t *testing.T) {
			for _, row := range form.Tampering(t, tarball(t), s) {
				t.Run(row.Name, func(t *testing.T) {
					wantReason(t, trust, row.Artifact, row.Reasons...)
				})
			}
		})
	}
}
