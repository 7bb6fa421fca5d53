//go:build faultpoints

package hardening_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// TestViolationsAreSeen: in the builds for tests a call without a rule ends the
// process, which no suite that starts the plugin overlooks.
func TestViolationsAreSeen(t *testing.T) {
	hardeningtest.NeedRoot(t)
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = childEnviron("calls-confined")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "SIGSYS") {
		t.Errorf("child ends with %v (%s), want SIGSYS", err, out)
	}
}
