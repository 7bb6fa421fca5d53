package hardeningtest

import (
	"fmt"
	"os"
	"testing"
)

// requireRoot is the variable that turns a skip into a failure.
const requireRoot = "REQUIRE_ROOT"

// NeedRoot skips t, or fails it where REQUIRE_ROOT=1, unless the process is
// root and may mount.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "needs root")
		return
	}
	if !mayMount() {
		Missing(t, "needs CAP_SYS_ADMIN")
	}
}

// NeedKernel skips t, or fails it where REQUIRE_ROOT=1, on a kernel older than
// major.minor. feature says what for.
func NeedKernel(t testing.TB, major, minor int, feature string) {
	t.Helper()
	release := kernelRelease()
	var haveMajor, haveMinor int
	// What cannot be read counts as version 0, which is older than any.
	_, _ = fmt.Sscanf(release, "%d.%d", &haveMajor, &haveMinor)
	if haveMajor < major || haveMajor == major && haveMinor < minor {
		Missing(t, fmt.Sprintf("needs Linux %d.%d for %s, this is %q", major, minor, feature, release))
	}
}

// Missing skips t, or fails it where REQUIRE_ROOT=1, for want of something that
// only an attempt can tell; reason says what.
func Missing(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv(requireRoot) == "1" {
		t.Fatalf("%s, and %s=1 forbids to skip", reason, requireRoot)
		return
	}
	t.Skip(reason)
}
