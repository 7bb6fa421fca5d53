package metricdocs_test

import (
	"testing"

	"github.com/portcullis-csi/portcullis/test/metricdocs"
)

func TestReplaced(t *testing.T) {
	const text = "a\n<!-- metrics:x:begin -->\nold\n<!-- metrics:x:end -->\nb\n"
	const want = "a\n<!-- metrics:x:begin -->\nnew\n<!-- metrics:x:end -->\nb\n"
	if got, err := metricdocs.Replaced(text, "x", "new\n"); err != nil || got != want {
		t.Errorf("replaced() = %q, %v, want %q", got, err, want)
	}
	for _, block := range []string{"y", ""} {
		if got, err := metricdocs.Replaced(text, block, "new\n"); err == nil {
			t.Errorf("replaced() of a block %q = %q, want an error", block, got)
		}
	}
}
