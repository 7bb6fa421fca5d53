package cosign_test

import (
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ociremote "github.com/sigstore/cosign/v2/pkg/oci/remote"

	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature/signaturetest"
)

// world is a registry, a directory and the command.
type world struct {
	*testing.T
	dir, command string
	repository   name.Repository
}

const passphrase = "correct horse"

func newWorld(t *testing.T) *world {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "../../tools/tool.sh", "cosign", "cosign").Output()
	if err != nil {
		t.Fatalf("build cosign: %v", err)
	}
	server := httptest.NewServer(registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	repository, err := name.NewRepository(strings.TrimPrefix(server.URL, "http://") + "/policy")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t, t.TempDir(), strings.TrimSpace(string(out)), repository}
	w.write("root.json", []byte(`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`))
	w.write("none.pub", nil)
	return w
}

func (w *world) path(file string) string { return filepath.Join(w.dir, file) }

func (w *world) write(file string, data []byte) string {
	w.Helper()
	if err := os.WriteFile(w.path(file), data, 0o600); err != nil {
		w.Fatal(err)
	}
	return w.path(file)
}

func (w *world) read(file string) []byte {
	w.Helper()
	data, err := os.ReadFile(w.path(file))
	if err != nil {
		w.Fatal(err)
	}
	return data
}

// try runs the command with nothing but the loopback: whoever wants to update its
// roots, as the command does by default, meets a proxy that is not there.
func (w *world) try(args ...string) (string, error) {
	cmd := exec.CommandContext(w.Context(), w.command, args...)
	cmd.Dir = w.dir
	cmd.Env = []string{
		"HOME=" + w.dir, "COSIGN_PASSWORD=" + passphrase, "HTTPS_PROXY=http://127.0.0.1:1", "NO_PROXY=127.0.0.1",
		"SIGSTORE_REKOR_PUBLIC_KEY=" + w.path("none.pub"), // asked for, it is not fetched
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (w *world) cosign(args ...string) {
	w.Helper()
	if out, err := w.try(args...); err != nil {
		w.Fatalf("cosign %s = %v\n%s", strings.Join(args, " "), err, out)
	}
}

// refuses fails unless the command refuses.
func (w *world) refuses(args ...string) {
	w.Helper()
	if out, err := w.try(args...); err == nil {
		w.Errorf("cosign %s = no error, want one\n%s", strings.Join(args, " "), out)
	}
}

// push puts a bundle into the registry, as the manifest says.
func (w *world) push(a signature.Artifact) name.Digest {
	w.Helper()
	ref := w.repository.Digest(signaturetest.Digest(a.Manifest))
	for _, layer := range []v1.Layer{
		static.NewLayer([]byte("{}"), "application/vnd.oci.empty.v1+json"), static.NewLayer(a.Tarball, signature.LayerMediaType),
	} {
		if err := remote.WriteLayer(w.repository, layer); err != nil {
			w.Fatal(err)
		}
	}
	if err := remote.Put(ref, manifest(a.Manifest)); err != nil {
		w.Fatal(err)
	}
	return ref
}

// manifest is one as bytes, which are not to be written anew.
type manifest []byte

func (m manifest) RawManifest() ([]byte, error)        { return m, nil }
func (m manifest) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// classicOf are the signatures that cosign puts beside an image in its first format.
func (w *world) classicOf(ref name.Digest) []signature.Signature {
	w.Helper()
	tag := w.repository.Tag(strings.Replace(ref.DigestStr(), ":", "-", 1) + ".sig")
	image, err := remote.Image(tag)
	if err != nil {
		w.Fatal(err)
	}
	list, err := image.Manifest()
	if err != nil {
		w.Fatal(err)
	}
	var found []signature.Signature
	for _, d := range list.Layers {
		layer, err := image.LayerByDigest(d.Digest)
		if err != nil {
			w.Fatal(err)
		}
		found = append(found, signature.Signature{Base64: d.Annotations["dev.cosignproject.cosign/signature"], Payload: w.content(layer)})
	}
	return found
}

func (w *world) content(layer v1.Layer) []byte {
	w.Helper()
	r, err := layer.Compressed()
	if err != nil {
		w.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		w.Fatal(err)
	}
	return data
}

// bundlesOf are those that refer to an image, attestations among them.
func (w *world) bundlesOf(ref name.Digest) []signature.Signature {
	w.Helper()
	index, err := remote.Referrers(ref)
	if err != nil {
		w.Fatal(err)
	}
	list, err := index.IndexManifest()
	if err != nil {
		w.Fatal(err)
	}
	var found []signature.Signature
	for _, d := range list.Manifests {
		image, err := remote.Image(w.repository.Digest(d.Digest.String()))
		if err != nil {
			w.Fatal(err)
		}
		layers, err := image.Layers()
		if err != nil {
			w.Fatal(err)
		}
		for _, layer := range layers {
			found = append(found, signature.Signature{Bundle: w.content(layer)})
		}
	}
	return found
}

// attach puts one of our signatures where cosign looks for it.
func (w *world) attach(ref name.Digest, s signature.Signature) {
	w.Helper()
	var err error
	if len(s.Bundle) > 0 {
		err = ociremote.WriteAttestationNewBundleFormat(ref, s.Bundle, signaturetest.SignPredicate)
	} else {
		var image v1.Image
		image, err = mutate.Append(mutate.MediaType(empty.Image, types.OCIManifestSchema1), mutate.Addendum{
			Layer:       static.NewLayer(s.Payload, "application/vnd.dev.cosign.simplesigning.v1+json"),
			Annotations: map[string]string{"dev.cosignproject.cosign/signature": s.Base64},
		})
		if err == nil {
			err = remote.Write(w.repository.Tag(strings.Replace(ref.DigestStr(), ":", "-", 1)+".sig"), image)
		}
	}
	if err != nil {
		w.Fatal(err)
	}
}

// trust trusts the command's key.
func (w *world) trust() *signature.Trust {
	w.Helper()
	key, err := signature.ParseKey(w.read("cosign.pub"))
	if err != nil {
		w.Fatal(err)
	}
	trust, err := signature.NewTrust(signature.Config{Keys: []signature.Key{key}})
	if err != nil {
		w.Fatal(err)
	}
	return trust
}

// artifact is a bundle like no other, with a manifest.
func (w *world) artifact(text string) signature.Artifact {
	w.Helper()
	tarball := signaturetest.Tarball(w, signaturetest.File{Name: ".manifest", Text: "{}"}, signaturetest.File{Name: "portcullis/checks/a.rego", Text: "package portcullis.checks.a\n# " + text})
	return signature.Artifact{Tarball: tarball, Manifest: signaturetest.Manifest(tarball)}
}
