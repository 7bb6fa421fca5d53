package main_test

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/deploy/image/sbom/sbomtest"
)

// readTar adds the regular files of a tar archive.
func readTar(t *testing.T, r io.ReadCloser, files map[string]string) {
	t.Helper()
	defer r.Close()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			files["/"+h.Name] = string(data)
		}
	}
}

// The product itself, for both platforms; its output is kept below bin, so that
// it is built again only when something changed.
func TestProduct(t *testing.T) {
	out, err := filepath.Abs("../../bin/image-test")
	if err != nil {
		t.Fatal(err)
	}
	run(t, "--source", "../..", "--out", out, "--version", "9.9.9-test", "--image", "portcullis-provider-local")
	programs := filepath.Join(out, ".programs", "release")
	for _, arch := range []string{"amd64", "arm64"} {
		t.Run(arch, func(t *testing.T) {
			program := filepath.Join(programs, "linux-"+arch, "portcullis-provider-local")
			document, err := os.ReadFile(filepath.Join(out, "portcullis-provider-local-linux-"+arch+".cdx.json"))
			if err != nil {
				t.Fatal(err)
			}
			sbomtest.Validate(t, document)
			shown, err := exec.CommandContext(t.Context(), "go", "version", "-m", program).Output()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(sbomtest.GoVersion(t, shown), sbomtest.Modules(t, document)); diff != "" {
				t.Errorf("modules (-go version -m +document):\n%s", diff)
			}
			if !runs(arch) {
				t.Log("built, not run: /proc/sys/fs/binfmt_misc has no emulator for it")
				return
			}
			said, err := exec.CommandContext(t.Context(), program, "--version").CombinedOutput()
			if err != nil || !strings.HasPrefix(string(said), "v9.9.9-test") {
				t.Errorf("program for %s says %q, %v, want its version", arch, said, err)
			}
		})
	}
	img, _ := dockerImage(t, filepath.Join(out, "portcullis-provider-local.tar"), "ghcr.io/portcullis-csi/portcullis-provider-local:9.9.9-test")
	text := unpack(t, img)["/licenses/THIRD_PARTY_NOTICES"]
	for _, want := range []string{"google.golang.org/grpc v", "Apache License", "std: LICENSE"} {
		if !strings.Contains(text, want) {
			t.Errorf("third-party notices lack %q", want)
		}
	}
}

// runs reports whether this machine can run the programs of an architecture.
func runs(arch string) bool {
	emulator := map[string]string{"arm64": "qemu-aarch64", "amd64": "qemu-x86_64"}[arch]
	_, err := os.Stat("/proc/sys/fs/binfmt_misc/" + emulator)
	return arch == runtime.GOARCH || err == nil
}
