package hardening_test

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// TestX32CallsAreRefused: the numbers of the other ABI of amd64 name the same
// calls, past a filter that does not know them.
func TestX32CallsAreRefused(t *testing.T) {
	out := confinedChild(t, "x32")
	if want := fmt.Sprintf("x32 %d\n", unix.ENOSYS); out != want {
		t.Errorf("getpid by its x32 number answers %q, want %q", out, want)
	}
}
