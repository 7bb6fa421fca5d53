//go:build faultpoints && insecure

// A build with the tag faultpoints and without insecure has no FaultPoint and
// so does not compile: what kills itself when told to must not be installable.

package hardening

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// faultpointsEnv names a directory. The process appends the name of each point
// that it passes, a line each, to the file "passed" in it. If the file "armed"
// there holds a name and a number, it kills itself when it passes that point
// for that time, counted in "passed".
const faultpointsEnv = "PORTCULLIS_FAULTPOINTS"

// violationsEnd says whether a system call that the filter of [Confine] does not
// know ends the process, so that tests see it.
const violationsEnd = true

//nolint:gochecknoglobals // a process dies once, and dies in the order in which its goroutines pass
var passing sync.Mutex

// FaultPoint notes that the step called name was reached, and does not return
// if the process is to die there.
func FaultPoint(name string) {
	dir := os.Getenv(faultpointsEnv) //nolint:forbidigo // it must reach every package, and no release build has it
	if dir == "" {
		return
	}
	passing.Lock()
	defer passing.Unlock()
	n, err := notePassing(filepath.Join(dir, "passed"), name)
	if err != nil {
		return // the test misses the passing
	}
	armed, err := os.ReadFile(filepath.Join(dir, "armed")) //nolint:gosec // G304: a test's directory
	if err != nil || string(armed) != fmt.Sprintf("%s %d", name, n) {
		return
	}
	// SIGKILL comes before the call returns (kill(2)): nothing deferred runs.
	_ = unix.Kill(unix.Getpid(), unix.SIGKILL)
	select {}
}

// notePassing appends a name and counts it.
func notePassing(file, name string) (n int, err error) {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600) //nolint:gosec // G304: a test's directory
	if err != nil {
		return 0, err
	}
	_, err = fmt.Fprintln(f, name)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return 0, err
	}
	text, err := os.ReadFile(file) //nolint:gosec // G304: a test's directory
	for line := range bytes.Lines(text) {
		if string(bytes.TrimSuffix(line, []byte("\n"))) == name {
			n++
		}
	}
	return n, err
}
