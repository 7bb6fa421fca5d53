package policies_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/policies"
)

// TestSerialsLeaveRoom: the clock in nanoseconds is no serial. The cluster's floor could
// not hold it, and the highest number there is would be the last bundle ever.
func TestSerialsLeaveRoom(t *testing.T) {
	for serial, ok := range map[int64]bool{
		0: true, 1: true, 1_795_704_679: true, 999_999_999_999_999_999: true,
		1_000_000_000_000_000_000: false, 1_795_704_679_000_000_000: false, math.MaxInt64: false, -1: false,
	} {
		b := valid()
		b.Manifest.Serial = serial
		_, err := policies.Compile(t.Context(), b, options())
		if (err == nil) != ok {
			t.Errorf("Compile() with serial %d = %v, want no error: %v", serial, err, ok)
		}
		if refused, is := errors.AsType[*policies.BundleError](err); err != nil && (!is || !strings.Contains(refused.Part, "serial") || refused.Remedy == "") {
			t.Errorf("Compile() with serial %d = %v, want the field and a remedy", serial, err)
		}
	}
}
