package signaturetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
)

// Tampered is a signed bundle that somebody has changed, and why it is refused.
type Tampered struct {
	Name     string
	Artifact signature.Artifact
	Reasons  []signature.Reason // one of them
}

// Change is one change of the files of a bundle.
type Change struct {
	Name   string
	Change func([]File) []File
}

// Changes returns what an attacker does to a bundle's files.
func Changes() []Change {
	edit := func(fits func(File) bool, text func(string) string) func([]File) []File {
		return func(files []File) []File {
			files = slices.Clone(files)
			if i := slices.IndexFunc(files, fits); i >= 0 {
				files[i].Text = text(files[i].Text)
			}
			return files
		}
	}
	ends := func(suffix string) func(File) bool {
		return func(f File) bool { return strings.HasSuffix(f.Name, suffix) && path.Base(f.Name) != ".manifest" }
	}
	manifest := func(f File) bool { return path.Base(f.Name) == ".manifest" }
	more := func(s string) func(string) string { return func(text string) string { return text + s } }
	add := func(f File) func([]File) []File {
		return func(files []File) []File { return append(slices.Clone(files), f) }
	}
	return []Change{
		{"data changed", edit(ends(".json"), more("\n"))},
		{"rego changed", edit(ends(".rego"), more("\n# changed\n"))},
		{"rego added", add(File{"portcullis/checks/added.rego", "package portcullis.checks.added\n"})},
		{"unrelated file added", add(File{"evil.txt", "x"})},
		{"file emptied", edit(ends(".rego"), func(string) string { return "" })},
		{"file removed", func(files []File) []File { return slices.DeleteFunc(slices.Clone(files), ends(".rego")) }},
		{".manifest changed", edit(manifest, more(" "))},
		{"patch.json added", add(File{"patch.json", `{"data":[]}`})},
		{"OPA signature added", add(File{".signatures.json", `{"signatures":[]}`})},
		{"order changed", func(files []File) []File { files = slices.Clone(files); slices.Reverse(files); return files }},
	}
}

// Files returns what is in a tarball.
func Files(t testing.TB, tarball []byte) []File {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(tarball))
	if err != nil {
		t.Fatal(err)
	}
	var files []File
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, File{h.Name, string(text)})
	}
}

// Tampering returns everything that must not be loaded in place of a tarball which
// the signer has signed in this form. The tarball has to be a bundle with Rego,
// data and a .manifest; each row really differs from it.
func (f Form) Tampering(t testing.TB, tarball []byte, s Signer) []Tampered {
	t.Helper()
	good := f.Signed(t, tarball, s)
	var rows []Tampered
	for _, c := range Changes() {
		changed := Tarball(t, c.Change(Files(t, tarball))...)
		if bytes.Equal(changed, Tarball(t, Files(t, tarball)...)) {
			t.Fatalf("%s: the bundle has nothing to change", c.Name)
		}
		rows = append(rows, f.substituted(t, good, changed, c.Name)...)
	}
	rows = append(rows, f.forged(t, good, s)...)
	if f.Blob {
		return rows
	}
	return append(rows, f.manifests(good)...)
}

// substituted puts another tarball under the signatures of a good artifact: as it
// is, and with a manifest of its own.
func (f Form) substituted(_ testing.TB, good signature.Artifact, changed []byte, name string) []Tampered {
	swapped := good
	swapped.Tarball = changed
	if f.Blob {
		return []Tampered{{name, swapped, []signature.Reason{signature.Transplanted, signature.WrongKey}}}
	}
	renamed := swapped
	renamed.Manifest = Manifest(changed)
	return []Tampered{
		{name, swapped, []signature.Reason{signature.Altered}},
		{name + ", and the manifest made to fit", renamed, []signature.Reason{signature.Transplanted}},
	}
}

// forged leaves the bundle as it is and changes who is said to have signed it.
func (f Form) forged(t testing.TB, good signature.Artifact, s Signer) []Tampered {
	t.Helper()
	with := func(list ...signature.Signature) signature.Artifact {
		a := good
		a.Signatures = list
		return a
	}
	stranger, other := NewSigner(t), f.Signed(t, Tarball(t, File{"other.rego", "package other\n"}), s)
	wrong := []signature.Reason{signature.Transplanted, signature.WrongKey}
	rows := []Tampered{
		{"no signature", with(), []signature.Reason{signature.Unsigned}},
		{"signature of a stranger", with(Sign(t, stranger, good, f.Format)), []signature.Reason{signature.WrongKey}},
		{"signature of another bundle", with(other.Signatures...), wrong},
		{"signature cut short", with(truncated(good.Signatures[0])), []signature.Reason{signature.Malformed, signature.WrongKey}},
		{"empty signature", with(signature.Signature{}), []signature.Reason{signature.Malformed}},
	}
	for _, g := range Forms() {
		if g.Blob != f.Blob {
			a := g.Signed(t, good.Tarball, s)
			rows = append(rows, Tampered{"signature of the form " + g.Name, with(a.Signatures...), []signature.Reason{signature.OtherForm}})
		}
	}
	if f.Blob {
		return rows
	}
	digest := Digest(good.Manifest)
	return append(rows,
		Tampered{"attestation with the same key", with(Attest(t, s, Statement(AttestationPredicate, digest))), []signature.Reason{signature.NotSignature}},
		Tampered{"statement about two subjects", with(Attest(t, s, Statement(SignPredicate, Digest([]byte("x")), digest))), []signature.Reason{signature.NotSignature}},
		Tampered{"statement about another manifest", with(Attest(t, s, Statement(SignPredicate, Digest([]byte("x"))))), []signature.Reason{signature.Transplanted}},
		Tampered{"document of another type", with(Classic(t, s, Payload("atomic container signature", digest))), []signature.Reason{signature.NotSignature}},
		Tampered{"document about another manifest", with(Classic(t, s, Payload("cosign container image signature", Digest([]byte("x"))))), []signature.Reason{signature.Transplanted}},
	)
}

func truncated(s signature.Signature) signature.Signature {
	if len(s.Bundle) > 0 {
		s.Bundle = s.Bundle[:len(s.Bundle)/2]
	} else {
		s.Base64 = s.Base64[:len(s.Base64)/2/4*4]
	}
	return s
}

// manifests changes the manifest under a signature that stays.
func (f Form) manifests(good signature.Artifact) []Tampered {
	changed := func(old, replacement string) signature.Artifact {
		a := good
		a.Manifest = bytes.Replace(good.Manifest, []byte(old), []byte(replacement), 1)
		return a
	}
	malformed, transplanted := []signature.Reason{signature.Malformed}, []signature.Reason{signature.Transplanted}
	layer := good.Manifest[bytes.Index(good.Manifest, []byte(`"layers":[`))+len(`"layers":[`):]
	layer = layer[:bytes.IndexByte(layer, '}')+1]
	subject := `"subject":{"mediaType":"` + signature.ManifestMediaType + `","digest":"` + Digest([]byte("x")) + `","size":1},"layers"`
	return []Tampered{
		{"manifest with a space more", changed(`{`, `{ `), transplanted},
		{"manifest with another annotation", changed(`"policy"`, `"other"`), transplanted},
		{"manifest with two layers", changed(`"layers":[`, `"layers":[`+string(layer)+`,`), malformed},
		{"manifest without layers", changed(string(layer), ``), malformed},
		{"manifest with layers twice", changed(`"layers":[`, `"layers":[],"layers":[`), malformed},
		{"manifest with Layers beside layers", changed(`"layers":[`, `"Layers":[],"layers":[`), malformed},
		{"manifest with a subject", changed(`"layers"`, subject), malformed},
		{"manifest of schema 1", changed(`"schemaVersion":2`, `"schemaVersion":1`), malformed},
		{"index instead of a manifest", changed(signature.ManifestMediaType, "application/vnd.oci.image.index.v1+json"), malformed},
		{"layer of another media type", changed(signature.LayerMediaType, "application/vnd.oci.image.layer.v1.tar"), malformed},
		{"layer from elsewhere", changed(`"layers":[{`, `"layers":[{"urls":["https://evil.example"],`), malformed},
		{"layer of another size", changed(`"size":`+sizeOf(layer), `"size":1`+sizeOf(layer)), []signature.Reason{signature.Altered}},
	}
}

func sizeOf(layer []byte) string {
	size := layer[bytes.Index(layer, []byte(`"size":`))+len(`"size":`):]
	return string(size[:bytes.IndexByte(size, '}')])
}
