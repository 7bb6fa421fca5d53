//go:build attack

package attack_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// building keeps two tests from building the same program.
var building sync.Mutex

// program builds cmd/<name> with these build tags, separated by commas, once
// for all tests, and returns the path of the binary.
func program(t testing.TB, name, tags string) string {
	t.Helper()
	building.Lock()
	defer building.Unlock()
	path := filepath.Join(os.Getenv(programsEnv), name+"+"+tags)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-tags", tags, "-o", path, "../../cmd/"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build -tags %q %s: %v\n%s", tags, name, err, out)
	}
	return path
}
