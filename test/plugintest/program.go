package plugintest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// building keeps two tests from building the same program.
var building sync.Mutex

// Program builds cmd/<name> with these build tags, separated by commas, once
// for all tests that give the same directory, and returns the path of the binary.
func Program(tb testing.TB, dir, name, tags string) string {
	tb.Helper()
	building.Lock()
	defer building.Unlock()
	path := filepath.Join(dir, name+"+"+tags)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	cmd := exec.CommandContext(tb.Context(), "go", "build", "-trimpath", "-tags", tags, "-o", path, "github.com/portcullis-csi/portcullis/cmd/"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("go build -tags %q %s: %v\n%s", tags, name, err, out)
	}
	return path
}

// addresses counts those that were given out.
var addresses atomic.Uint32

// FreeAddress returns a loopback address with a port that was free a moment
// ago. Each has another host, so that tests at the same time do not meet.
func FreeAddress(tb testing.TB) string {
	tb.Helper()
	host := fmt.Sprintf("127.%d.%d.%d:0", 1+os.Getpid()%250, 1+os.Getpid()/250%250, 1+addresses.Add(1)%250)
	l, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", host)
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Eventually waits until f returns nil.
func Eventually(tb testing.TB, what string, f func() error) {
	tb.Helper()
	deadline := time.Now().Add(Patience)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("%s: %v, and still after %v", what, err, Patience)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
