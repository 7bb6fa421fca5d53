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
	"github.com/portcullis-csi/portcullis/deploy/image/sourcetest"
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
			needEmulator(t, arch)
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

// needEmulator skips what this machine cannot run.
func needEmulator(t *testing.T, arch string) {
	t.Helper()
	if arch == runtime.GOARCH {
		return
	}
	handlers, _ := filepath.Glob("/proc/sys/fs/binfmt_misc/qemu-*")
	name := map[string]string{"arm64": "qemu-aarch64", "amd64": "qemu-x86_64"}[arch]
	for _, h := range handlers {
		if filepath.Base(h) == name {
			return
		}
	}
	t.Skipf("built, not run: no emulator %s for %s is registered in /proc/sys/fs/binfmt_misc", name, arch)
}

// Everything again from nothing: other paths and an empty build cache. Takes
// minutes, so only nightly and before a release.
func TestProductIsTheSameFromNothing(t *testing.T) {
	if os.Getenv("PORTCULLIS_NIGHTLY") == "" {
		t.Skip("compiles everything twice: set PORTCULLIS_NIGHTLY=1")
	}
	var outs []map[string]string
	for range 2 {
		clone := sourcetest.Clone(t, "../..")
		t.Setenv("GOCACHE", t.TempDir())
		run(t, "--source", clone, "--version", "9.9.9-test")
		outs = append(outs, contents(t, filepath.Join(clone, "bin", "images")))
	}
	for name, text := range outs[0] {
		if outs[1][name] != text {
			t.Errorf("%s differs between two builds", name)
		}
	}
	if len(outs[0]) != 12 || len(outs[1]) != 12 {
		t.Errorf("files are %v and %v, want 12 each", sizesOf(outs[0]), sizesOf(outs[1]))
	}
}
