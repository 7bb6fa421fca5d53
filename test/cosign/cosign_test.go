package cosign_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature/signaturetest"
)

// accepts fails unless the command's signature is vouched for, and that of a
// changed bundle is not.
func (w *world) accepts(what string, a signature.Artifact, list ...signature.Signature) {
	w.Helper()
	a.Signatures = list
	if v, err := w.trust().Verify(w.Context(), a); err != nil || len(v.Signers) != 1 {
		w.Errorf("Verify() of %s = %v, %v, want one signer", what, v, err)
	}
	other := w.artifact("other than " + what)
	if a.Manifest == nil {
		other.Manifest = nil
	}
	other.Signatures = list
	w.wantReason(what+", of another bundle", w.trust(), other, signature.Transplanted, signature.WrongKey)
	w.wantReason(what+", of another key", signaturetest.Trust(w, 1, signaturetest.NewSigner(w)), a, signature.WrongKey)
}

func (w *world) wantReason(what string, trust *signature.Trust, a signature.Artifact, want ...signature.Reason) {
	w.Helper()
	v, err := trust.Verify(w.Context(), a)
	if refused, ok := errors.AsType[*signature.Error](err); !ok || !slices.Contains(want, refused.Reason) {
		w.Errorf("Verify() of %s = %v, %v, want it refused as one of %q", what, v, err, want)
	}
}

// TestWhatTheCommandSignsIsVouchedFor: with each kind of key that it takes, in each of
// its forms.
func TestWhatTheCommandSignsIsVouchedFor(t *testing.T) {
	for _, kind := range kinds() {
		t.Run(kind.name, func(t *testing.T) { commandSigns(t, kind) })
	}
}

func commandSigns(t *testing.T, kind kind) {
	w := newWorld(t)
	kind.pair(w)
	sign := []string{"sign", "--key", "cosign.key", "--tlog-upload=false", "-y"}

	classic := w.artifact("classic")
	ref := w.push(classic)
	w.cosign(append(sign, ref.String())...)
	w.accepts("a classic signature", classic, w.classicOf(ref)...)

	bundled := w.artifact("bundled")
	ref = w.push(bundled)
	w.cosign(append(sign, "--new-bundle-format", ref.String())...)
	w.accepts("a bundle", bundled, w.bundlesOf(ref)...)

	w.write("predicate.json", []byte(`{"passed":false}`))
	attested := w.artifact("attested")
	ref = w.push(attested)
	w.cosign("attest", "--key", "cosign.key", "--tlog-upload=false", "-y", "--new-bundle-format", "--predicate", "predicate.json", ref.String())
	attested.Signatures = w.bundlesOf(ref)
	w.wantReason("an attestation", w.trust(), attested, signature.NotSignature)

	blob := signature.Artifact{Tarball: w.artifact("blob").Tarball}
	w.write("bundle.tar.gz", blob.Tarball)
	for _, tt := range []struct {
		file string
		args []string
	}{
		{"new.json", []string{"--new-bundle-format", "--bundle", "new.json"}},
		{"older.json", []string{"--bundle", "older.json"}},
		{"bundle.sig", []string{"--output-signature", "bundle.sig"}},
	} {
		args := append(append([]string{"sign-blob", "--key", "cosign.key", "--tlog-upload=false", "-y"}, tt.args...), "bundle.tar.gz")
		if kind.noBlobs {
			w.refuses(args...)
			continue
		}
		w.cosign(args...)
		read, err := signature.ParseFile(w.read(tt.file))
		if err != nil {
			t.Errorf("ParseFile(%s) = %v, want no error", tt.file, err)
			continue
		}
		w.accepts(tt.file, blob, read)
		if tt.file == "bundle.sig" && kind.digest != "" {
			w.refuses("verify-blob", "--insecure-ignore-tlog", "--key", "cosign.pub", "--signature", "bundle.sig", "bundle.tar.gz")
		}
	}
}

// TestTheCommandAcceptsWhatWeSign: with each kind of key that portcullis policy sign
// takes, and in each form.
func TestTheCommandAcceptsWhatWeSign(t *testing.T) {
	for _, kind := range kinds() {
		t.Run(kind.name, func(t *testing.T) { commandAccepts(t, kind) })
	}
}

func commandAccepts(t *testing.T, kind kind) {
	w := newWorld(t)
	kind.pair(w)
	s, err := signature.LoadSigner(w.read("cosign.key"), []byte(passphrase))
	if err != nil {
		t.Fatal(err)
	}
	w.write("other.pub", signaturetest.NewSigner(t).Key().PEM)
	sign := func(a signature.Artifact, f signature.Format) signature.Signature {
		signed, err := signature.Sign(t.Context(), s, a, f)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	verify := func(key string, ref name.Digest, more ...string) []string {
		return append(append([]string{"verify", "--key", key, "--insecure-ignore-tlog"}, more...), ref.String())
	}
	for format, more := range map[signature.Format][]string{
		signature.FormatClassic: kind.verify(), signature.FormatBundle: append(kind.verify(), "--new-bundle-format", "--trusted-root", "root.json"),
	} {
		a := w.artifact("ours, " + string(format))
		ref := w.push(a)
		w.refuses(verify("cosign.pub", ref, more...)...)
		w.attach(ref, sign(a, format))
		w.cosign(verify("cosign.pub", ref, more...)...)
		w.refuses(verify("other.pub", ref, more...)...)
	}

	blob := signature.Artifact{Tarball: w.artifact("blob").Tarball}
	w.write("bundle.tar.gz", blob.Tarball)
	w.write("other.tar.gz", w.artifact("other").Tarball)
	w.write("bundle.json", sign(blob, signature.FormatBundle).Bundle)
	w.write("bundle.sig", []byte(sign(blob, signature.FormatClassic).Base64))
	for _, how := range [][]string{
		{"--new-bundle-format", "--trusted-root", "root.json", "--bundle", "bundle.json"},
		{"--signature", "bundle.sig"},
	} {
		how = append([]string{"verify-blob", "--insecure-ignore-tlog", "--key"}, append([]string{"cosign.pub"}, how...)...)
		if kind.digest != "" {
			w.refuses(append(how, "bundle.tar.gz")...) // as it does those of its own
			continue
		}
		w.cosign(append(how, "bundle.tar.gz")...)
		w.refuses(append(slices.Clone(how), "other.tar.gz")...)
		how[3] = "other.pub"
		w.refuses(append(how, "bundle.tar.gz")...)
	}
}
