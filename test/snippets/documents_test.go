package snippets_test

import (
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/portcullis-csi/portcullis/test/snippets"
)

// documents are those of which every block is accounted for.
func documents() []string { return []string{"POLICIES.md", "AUDIT_EVENTS.md"} }

// A page that is rendered shows no info strings: the name of a file that the reader
// is to write stands in the text above it.
func TestFilesAreNamedWhereReadersSeeIt(t *testing.T) {
	for _, name := range documents() {
		text, blocks := read(t, name)
		lines := strings.Split(text, "\n")
		for _, b := range blocks {
			if (b.Kind == snippets.File || b.Kind == snippets.Append) && !strings.HasSuffix(lines[b.Line-3], "`"+b.Name+"`:") {
				t.Errorf("docs/%s:%d: the line above the block does not end with `%s`: but is %q", name, b.Line, b.Name, lines[b.Line-3])
			}
		}
	}
}

func follow(t *testing.T, leaveOut func(snippets.Block) bool) {
	bin := programs(t)
	for _, name := range documents() {
		t.Run(name, func(t *testing.T) {
			_, blocks := read(t, name)
			run := 0
			for _, b := range blocks {
				if b.Kind == snippets.Run {
					run++
				}
			}
			if run < 5 {
				t.Errorf("docs/%s has %d blocks to run, want at least 5: the search is broken", name, run)
			}
			reader := snippets.Reader{Dir: t.TempDir(), Env: append(os.Environ(),
				"PATH="+bin+":"+os.Getenv("PATH"), "HOME="+t.TempDir(), "REGISTRY="+ociRegistry(t))}
			if err := reader.Follow(t.Context(), slices.DeleteFunc(blocks, leaveOut)); err != nil {
				t.Errorf("docs/%s: %v", name, err)
			}
		})
	}
}

// ociRegistry is a registry on this machine, which documents call REGISTRY.
func ociRegistry(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func read(t *testing.T, name string) (text string, blocks []snippets.Block) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("../../docs", name))
	if err != nil {
		t.Fatal(err)
	}
	if blocks, err = snippets.Extract(string(content)); err != nil {
		t.Fatalf("docs/%s: %v", name, err)
	}
	return string(content), blocks
}

// programs builds what make build does, and a sudo that only runs: the tests are
// root already where they need to be.
func programs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-tags", "insecure", "-o", dir+"/", "../../cmd/...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "sudo"), []byte("#!/bin/sh\nexec \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
