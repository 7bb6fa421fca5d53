package bundle_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/policies/bundle"
)

// TestOneHint: why the cluster's floor cannot be read is told with one remedy, that
// of who was asked if there is one.
func TestOneHint(t *testing.T) {
	for answer, want := range map[string]string{
		"no route to host": "; hint: see that --policy-floor is readable",
		"the API server answers 403; hint: the account needs get on ConfigMap a/b": "; hint: the account needs get on ConfigMap a/b",
	} {
		r := newRig(t)
		r.floor = &clusterFloor{err: errors.New(answer)}
		r.registry.put(r.signed(5, true))
		err := r.start()
		if bundle.ReasonOf(err) != bundle.ReasonFloor || !strings.HasSuffix(err.Error(), want) || strings.Count(err.Error(), "hint:") != 1 {
			t.Errorf("Start() = %v, want it to end with the one hint %q", err, want)
		}
		r.want(0, "without a floor")
	}
}
