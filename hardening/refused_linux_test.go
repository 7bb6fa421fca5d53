//go:build !faultpoints

package hardening_test

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestP5RefusedCalls: each is refused by the filter, and would not be without.
func TestP5RefusedCalls(t *testing.T) {
	confined := strings.Split(confinedChild(t, "calls-confined"), "\n")
	free := strings.Split(confinedChild(t, "calls"), "\n")
	list := calls()
	if len(confined) != len(list)+2 || len(free) != len(list)+2 || confined[len(list)] != "unix socket <nil>" {
		t.Fatalf("the child with a filter made %d calls, the other %d, want %d, and a socket: %q", len(confined)-2, len(free)-2, len(list), confined)
	}
	for i, c := range list {
		want := c.want
		if want == 0 {
			want = unix.EPERM
		}
		answer := fmt.Sprintf("%s %d", c.name, want)
		if confined[i] != answer {
			t.Errorf("%s%x answers %q with the filter, want %q (%v)", c.name, c.args, confined[i], answer, want)
		}
		if free[i] == answer {
			t.Errorf("%s%x answers %q without the filter too: this shows nothing", c.name, c.args, free[i])
		}
	}
}
