package conformance_test

import (
	"fmt"
	"os"
	"syscall"
	"testing"
)

// needRoot skips t, or fails it where REQUIRE_ROOT=1, unless the process is
// root. The product's hardeningtest does the same; importing it would tie this
// module's requirements to the product's.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "needs root")
	}
}

func missing(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("REQUIRE_ROOT") == "1" {
		t.Fatalf("%s, and REQUIRE_ROOT=1 forbids to skip", reason)
		return
	}
	t.Skip(reason)
}

// unmountAll detaches the mounts stacked at path, which a failed test may have
// left behind.
func unmountAll(path string) {
	const most = 1000
	for range most {
		if syscall.Unmount(path, syscall.MNT_DETACH) != nil {
			return
		}
	}
}

// needKernel skips t, or fails it where REQUIRE_ROOT=1, on a kernel older than
// major.minor.
func needKernel(t testing.TB, major, minor int, feature string) {
	t.Helper()
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	var haveMajor, haveMinor int
	// What cannot be read counts as version 0, which is older than any.
	_, _ = fmt.Sscanf(string(release), "%d.%d", &haveMajor, &haveMinor)
	if haveMajor < major || haveMajor == major && haveMinor < minor {
		missing(t, fmt.Sprintf("needs Linux %d.%d for %s, this is %q", major, minor, feature, release))
	}
}

// outcome is a testing.TB that remembers instead of stopping.
type outcome struct {
	testing.TB
	skipped, failed bool
}

func (*outcome) Helper()                 {}
func (o *outcome) Skip(...any)           { o.skipped = true }
func (o *outcome) Fatalf(string, ...any) { o.failed = true }

func TestNeedKernel(t *testing.T) {
	for name, c := range map[string]struct {
		major    int
		required string
		want     outcome
	}{
		"old kernel is enough":            {2, "1", outcome{}},
		"future kernel is skipped":        {999, "", outcome{skipped: true}},
		"future kernel fails if required": {999, "1", outcome{failed: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("REQUIRE_ROOT", c.required)
			var got outcome
			if needKernel(&got, c.major, 0, "time travel"); got != c.want {
				t.Errorf("needKernel(%d) skipped %v, failed %v, want %v, %v", c.major, got.skipped, got.failed, c.want.skipped, c.want.failed)
			}
		})
	}
}
