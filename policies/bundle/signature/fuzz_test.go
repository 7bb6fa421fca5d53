package signature_test

import (
	"errors"
	"testing"

	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature/signaturetest"
)

// vouched fails when a changed artifact is vouched for, or a refusal is no Error.
func vouched(t *testing.T, trust *signature.Trust, a signature.Artifact, same bool) {
	t.Helper()
	v, err := trust.Verify(t.Context(), a)
	if _, ok := errors.AsType[*signature.Error](err); err != nil && !ok {
		t.Fatalf("Verify() = %v, want an Error", err)
	}
	if err == nil && !same {
		t.Fatalf("Verify() = %v, want an error", v)
	}
	if err != nil && same {
		t.Fatalf("Verify() = %v, want no error", err)
	}
}

func FuzzManifest(f *testing.F) {
	s, form := signaturetest.NewSigner(f), signaturetest.Forms()[0]
	good := form.Signed(f, tarball(f), s)
	trust := signaturetest.Trust(f, 1, s)
	for _, row := range form.Tampering(f, tarball(f), s) {
		f.Add(row.Artifact.Manifest)
	}
	f.Fuzz(func(t *testing.T, manifest []byte) {
		a := good
		a.Manifest = manifest
		if manifest == nil {
			a.Manifest = []byte{}
		}
		vouched(t, trust, a, string(manifest) == string(good.Manifest))
	})
}

func FuzzPayload(f *testing.F) {
	s, form := signaturetest.NewSigner(f), signaturetest.Forms()[1]
	good := form.Signed(f, tarball(f), s)
	trust, right := signaturetest.Trust(f, 1, s), string(good.Signatures[0].Payload)
	f.Add(good.Signatures[0].Payload)
	f.Add(signaturetest.Payload("atomic container signature", signaturetest.Digest(good.Manifest)))
	f.Add([]byte(`{"critical":null}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		// Signed by the key that is trusted, whatever it says: only a document about
		// this manifest may be vouched for.
		signed := signaturetest.Classic(t, s, document)
		a := good
		a.Signatures = []signature.Signature{signed}
		if v, err := trust.Verify(t.Context(), a); err == nil && v.Digest != signaturetest.Digest(good.Manifest) {
			t.Fatalf("Verify() = %v, want the manifest's digest", v)
		}
		signed.Base64 = good.Signatures[0].Base64
		a.Signatures = []signature.Signature{signed}
		vouched(t, trust, a, string(document) == right)
	})
}

func FuzzBundle(f *testing.F) {
	s, authority := signaturetest.NewSigner(f), signaturetest.NewAuthority(f)
	trust, err := signature.NewTrust(signature.Config{
		Keys: []signature.Key{s.Key()}, Identities: []signature.Identity{alice()},
		TrustedRoot: authority.TrustedRoot(f, signaturetest.Holds{Log: true, Timestamps: true}),
	})
	if err != nil {
		f.Fatal(err)
	}
	// None of the seeds is of this bundle, so that nothing may be vouched for.
	for _, form := range signaturetest.Forms() {
		a := form.Artifact(tarball(f))
		f.Add(form.Signed(f, tarball(f), s).Signatures[0].Bundle)
		f.Add(authority.Sign(f, signaturetest.Keyless{Identity: alice()}, form, a).Bundle)
	}
	other := signaturetest.Tarball(f, signaturetest.File{Name: "other", Text: "other"})
	f.Fuzz(func(t *testing.T, bundle []byte) {
		for _, form := range signaturetest.Forms() {
			a := form.Artifact(other)
			read, err := signature.ParseFile(bundle)
			if err != nil {
				read = signature.Signature{Bundle: bundle}
			}
			a.Signatures = []signature.Signature{read, {Bundle: bundle}}
			vouched(t, trust, a, false)
		}
	})
}
