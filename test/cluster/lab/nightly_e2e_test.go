//go:build e2e && nightly

package lab_test

import (
	"cmp"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
	"github.com/portcullis-csi/portcullis/test/cluster/lab"
)

// What takes most of a minute, and what the suite that uses labs would show by
// itself: make nightly.

// TestNothingIsLeftWhenTheTimeIsOver: of a lab that nobody ended.
func TestNothingIsLeftWhenTheTimeIsOver(t *testing.T) {
	hardeningtest.NeedRoot(t)
	if _, err := lab.Build(t.Context(), cmp.Or(version(), lab.V137), os.Stderr); err != nil { // what it builds, it keeps
		t.Fatal(err)
	}
	before := look(t)
	l, err := lab.Up(t.Context(), lab.Config{Name: "test-left-3", Kubernetes: version(), Limit: 45 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the lab has ended", func() error {
		if _, err := lab.Open("test-left-3"); err == nil || !strings.Contains(err.Error(), "time is over") {
			return fmt.Errorf("open: %w", err)
		}
		return nil
	})
	if err := l.Down(t.Context()); err != nil {
		t.Errorf("Down() = %v, want nil", err)
	}
	before.checkNothingNew(t)
}

// TestTwoLabs: neither sees the other, and the end of one is not the other's.
func TestTwoLabs(t *testing.T) {
	first := clientOf(t, up(t, lab.Config{Name: "test-two-1"}))
	second := clientOf(t, up(t, lab.Config{Name: "test-two-2"}))
	first.run(t, pod("mine", "sleep 1000"))
	second.run(t, pod("other", "sleep 1000"))
	if got := first.kubectl(t, "get", "pods", "-o", "name"); got != "pod/mine\n" {
		t.Errorf("the first lab's pods are %q, want its own", got)
	}
	if err := first.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := second.kubectl(t, "exec", "other", "--", "echo", "lives"); got != "lives\n" {
		t.Errorf("the second lab says %q after the first has ended, want that it lives", got)
	}
}
