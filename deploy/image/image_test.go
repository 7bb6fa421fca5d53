package main_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	image "github.com/portcullis-csi/portcullis/deploy/image"
	"github.com/portcullis-csi/portcullis/deploy/image/sbom/sbomtest"
	"github.com/portcullis-csi/portcullis/deploy/image/sourcetest"
)

func run(t *testing.T, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	if err := image.Run(t.Context(), args, "", &out); err != nil {
		t.Fatalf("image %v: %v", args, err)
	}
	return out.String()
}

// contents returns the files below dir, without what is kept between builds.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		found[e.Name()] = string(data)
	}
	return found
}

func sizesOf(files map[string]string) map[string]int {
	n := map[string]int{}
	for name, text := range files {
		n[name] = len(text)
	}
	return n
}

func TestTwoClonesGiveEqualImages(t *testing.T) {
	first := sourcetest.New(t, "1.2.3")
	second := sourcetest.Clone(t, first)
	run(t, "--source", first)
	t.Setenv("GOFLAGS", "-tags=insecure")
	t.Setenv("TZ", "Pacific/Auckland")
	run(t, "--source", filepath.Join(second, "cmd"), "--out", filepath.Join(second, "bin", "elsewhere"))
	a, b := contents(t, filepath.Join(first, "bin", "images")), contents(t, filepath.Join(second, "bin", "elsewhere"))
	if len(a) != 18 { // three images: tarball, digest, and a description and a digest for each of two platforms
		t.Errorf("files are %v, want 18", sizesOf(a))
	}
	for name, text := range a {
		if b[name] != text {
			t.Errorf("%s differs between two clones", name)
		}
	}
	if len(a) != len(b) {
		t.Errorf("files are %v and %v", sizesOf(a), sizesOf(b))
	}
}

// dockerImage returns the amd64 image of a tarball.
func dockerImage(t *testing.T, file, ref string) (v1.Image, *v1.ConfigFile) {
	t.Helper()
	tag, err := name.NewTag(ref, name.StrictValidation)
	if err != nil {
		t.Fatal(err)
	}
	img, err := tarball.ImageFromPath(file, &tag)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return img, config
}

func TestImageOfTheNodePlugin(t *testing.T) {
	root := sourcetest.New(t, "1.2.3")
	out := run(t, "--source", root, "--platform", "linux/amd64", "--image", "portcullis-node")
	dir := filepath.Join(root, "bin", "images")
	img, config := dockerImage(t, filepath.Join(dir, "portcullis-node.tar"), "ghcr.io/portcullis-csi/portcullis-node:1.2.3")
	head := sourcetest.Git(t, root, "rev-parse", "HEAD")
	const prefix = "org.opencontainers.image."
	for label, want := range map[string]string{
		"title": "portcullis-node", "version": "1.2.3", "revision": head, "licenses": "Apache-2.0",
		"created": "2023-11-14T22:13:20Z", "source": "https://github.com/portcullis-csi/portcullis",
	} {
		if got := config.Config.Labels[prefix+label]; got != want {
			t.Errorf("label %s is %q, want %q", label, got, want)
		}
	}
	if config.Config.User != "0:0" || !cmp.Equal(config.Config.Entrypoint, []string{"/portcullis-node"}) {
		t.Errorf("runs %q as user %q", config.Config.Entrypoint, config.Config.User)
	}
	files := unpack(t, img)
	var names []string
	for _, want := range []string{
		"/etc/ssl/certs/ca-certificates.crt", "/licenses/CERTIFICATES", "/licenses/LICENSE", "/licenses/THIRD_PARTY_NOTICES", "/portcullis", "/portcullis-node",
	} {
		names = append(names, want)
		if files[want] == "" {
			t.Errorf("image lacks %s", want)
		}
	}
	if len(files) != len(names) {
		t.Errorf("image holds %v, want only %v", sizesOf(files), names)
	}
	if n := strings.Count(files["/etc/ssl/certs/ca-certificates.crt"], "BEGIN CERTIFICATE"); n < 50 {
		t.Errorf("image trusts %d certificate authorities, want those of Mozilla", n)
	}
	digest := strings.TrimSpace(contents(t, dir)["portcullis-node.digest"])
	if !strings.Contains(out, "ghcr.io/portcullis-csi/portcullis-node:1.2.3@"+digest+"\n") || len(digest) != 71 {
		t.Errorf("output does not name digest %q:\n%s", digest, out)
	}
	document := []byte(contents(t, dir)["portcullis-node-linux-amd64.cdx.json"])
	sbomtest.Validate(t, document)
	if !bytes.Contains(document, []byte("pkg:golang/golang.org/x/crypto/x509roots/fallback@")) {
		t.Error("document does not name the certificate authorities")
	}
}

func TestProviderTrustsNobody(t *testing.T) {
	root := sourcetest.New(t, "1.2.3")
	run(t, "--source", root, "--platform", "linux/amd64", "--image", "portcullis-provider-local")
	img, _ := dockerImage(t, filepath.Join(root, "bin", "images", "portcullis-provider-local.tar"), "ghcr.io/portcullis-csi/portcullis-provider-local:1.2.3")
	if files := unpack(t, img); files["/etc/ssl/certs/ca-certificates.crt"] != "" || files["/portcullis-provider-local"] == "" {
		t.Errorf("image holds %v, want the program and no certificate authorities", sizesOf(files))
	}
}

func TestDevelopmentImagesSaySo(t *testing.T) {
	root := sourcetest.New(t, "1.2.3")
	sourcetest.Write(t, filepath.Join(root, "new"), "not committed")
	run(t, "--source", root, "--platform", "linux/amd64", "--insecure", "--version", "9.9.9-dev", "--repository", "registry.example/x")
	dir := filepath.Join(root, "bin", "images")
	img, config := dockerImage(t, filepath.Join(dir, "portcullis-node-insecure.tar"), "registry.example/x/portcullis-node-insecure:9.9.9-dev")
	labels := config.Config.Labels
	if labels["io.github.portcullis-csi.insecure"] != "true" || !strings.HasPrefix(labels["org.opencontainers.image.description"], "DEVELOPMENT BUILD") {
		t.Errorf("labels are %v", labels)
	}
	if !strings.HasSuffix(labels["org.opencontainers.image.revision"], "-modified") {
		t.Errorf("revision is %q, want that it is modified", labels["org.opencontainers.image.revision"])
	}
	program := unpack(t, img)["/portcullis-node"]
	if !strings.Contains(program, "v9.9.9-dev+") || !strings.Contains(program, " insecure") {
		t.Error("program is not the development build of that version")
	}
	for name := range contents(t, dir) {
		if !strings.Contains(name, "-insecure") {
			t.Errorf("%s is not named insecure", name)
		}
	}
}

// unpack returns the files of an image.
func unpack(t *testing.T, img v1.Image) map[string]string {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, l := range layers {
		r, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		readTar(t, r, files)
	}
	return files
}

func TestPushOfAnUnchangedCommit(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	root := sourcetest.New(t, "1.2.3")
	sourcetest.Git(t, root, "tag", "v1.2.3")
	out := run(t, "--source", root, "--release", "--image", "portcullis-provider-local", "--push", host+"/team")
	digest := strings.TrimSpace(contents(t, filepath.Join(root, "bin", "images"))["portcullis-provider-local.digest"])
	ref, err := name.ParseReference(host + "/team/portcullis-provider-local:1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	idx, err := remote.Index(ref)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := idx.Digest(); err != nil || got.String() != digest {
		t.Errorf("registry has %v, %v, want %s", got, err, digest)
	}
	if !strings.Contains(out, "pushed "+ref.Name()+"@"+digest+" with 2 documents") {
		t.Errorf("output is\n%s", out)
	}
	list, err := idx.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list.Manifests {
		found, err := remote.Referrers(ref.Context().Digest(m.Digest.String()))
		if err != nil {
			t.Fatal(err)
		}
		documents, err := found.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		if len(documents.Manifests) != 1 {
			t.Errorf("%d documents about %s, want one", len(documents.Manifests), m.Platform)
		}
	}
}

func TestRefusals(t *testing.T) {
	clean := sourcetest.New(t, "1.2.3")
	modified := sourcetest.New(t, "1.2.3")
	sourcetest.Write(t, filepath.Join(modified, "new"), "")
	noChart := sourcetest.New(t, "1.2.3")
	if err := os.Remove(filepath.Join(noChart, "deploy", "chart", "Chart.yaml")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"development builds to a registry", []string{"--source", clean, "--insecure", "--push", "localhost:1/x"}, "--push-insecure"},
		{"development builds as release", []string{"--source", clean, "--insecure", "--release"}, "--insecure"},
		{"changed sources to a registry", []string{"--source", modified, "--push", "localhost:1/x"}, "not an unchanged commit"},
		{"changed sources as release", []string{"--source", modified, "--release"}, "not an unchanged commit"},
		{"a release without tag", []string{"--source", clean, "--release"}, "no tag v1.2.3"},
		{"no chart and no version", []string{"--source", noChart}, "--version"},
		{"a version that is no tag", []string{"--source", clean, "--version", "latest"}, "semantic version"},
		{"an unknown image", []string{"--source", clean, "--image", "nginx"}, "portcullis-node"},
		{"an unknown platform", []string{"--source", clean, "--platform", "linux/386"}, "linux/arm64"},
		{"an argument too many", []string{"node"}, "unexpected"},
		{"an unknown flag", []string{"--tag", "x"}, "not defined"},
		{"a repository that is none", []string{"--source", clean, "--platform", "linux/amd64", "--repository", "UPPER/x"}, "name image"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			if err := image.Run(t.Context(), c.args, "", &out); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("image %v = %v, want an error with %q", c.args, err, c.want)
			}
		})
	}
}

func TestInterruptEndsTheBuild(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := image.Run(ctx, []string{"--source", sourcetest.New(t, "1.2.3")}, "", io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v, want %v", err, context.Canceled)
	}
}

// A build with one platform less must not leave the description of the other.
func TestOldDescriptionsGo(t *testing.T) {
	root := sourcetest.New(t, "1.2.3")
	args := []string{"--source", root, "--image", "portcullis-provider-local"}
	old := filepath.Join(root, "bin", "images", "portcullis-provider-local-linux-arm64.cdx.json")
	sourcetest.Write(t, old, "{}")
	run(t, append(args, "--platform", "linux/amd64")...)
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("description of a platform that was not built: %v, want that it is gone", err)
	}
	if files := contents(t, filepath.Dir(old)); len(files) != 4 {
		t.Errorf("files are %v, want tarball, digest, and description and digest of one platform", sizesOf(files))
	}
}

// The webhook needs nothing of root's.
func TestImageOfTheWebhook(t *testing.T) {
	root := sourcetest.New(t, "1.2.3")
	run(t, "--source", root, "--platform", "linux/amd64", "--image", "portcullis-webhook")
	img, config := dockerImage(t, filepath.Join(root, "bin", "images", "portcullis-webhook.tar"), "ghcr.io/portcullis-csi/portcullis-webhook:1.2.3")
	if config.Config.User != "65532:65532" || !cmp.Equal(config.Config.Entrypoint, []string{"/portcullis-webhook"}) {
		t.Errorf("runs %q as user %q", config.Config.Entrypoint, config.Config.User)
	}
	files := unpack(t, img)
	for _, name := range []string{"/portcullis-webhook", "/portcullis", "/etc/ssl/certs/ca-certificates.crt"} {
		if files[name] == "" {
			t.Errorf("the image lacks %s", name)
		}
	}
}

// The user of the image is the one that the chart runs it as.
func TestUserOfTheWebhookIsTheCharts(t *testing.T) {
	text, err := os.ReadFile("../chart/templates/webhook.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"runAsUser: 65532", "runAsGroup: 65532"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the chart has no %s", want)
		}
	}
}
