package shadow_test

import (
	"flag"
	"testing"

	"github.com/portcullis-csi/portcullis/test/metricdocs"
)

var update = flag.Bool("update", false, "rewrite the table of metrics in docs/OPERATIONS.md")

func TestOperationsDocumentsEveryMetric(t *testing.T) {
	m := metricdocs.New()
	if err := newGate(t, policy{}, policy{}).Register(m); err != nil {
		t.Fatal(err)
	}
	m.Check(t, "policy-shadow", 5, *update)
}
