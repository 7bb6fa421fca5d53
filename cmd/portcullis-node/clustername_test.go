package main_test

import (
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/audittest"
	node "github.com/portcullis-csi/portcullis/cmd/portcullis-node"
)

// A name that no event can have would stop the plugin later, with a log that
// nothing can be written to.
func TestClusterNameIsOneThatEventsCanHave(t *testing.T) {
	r, l := audittest.New(t)
	r.Owe(audit.DriverStarted())
	event := audittest.Closed(t, r, l)[0]
	for name, want := range map[string]bool{
		"prod-eu1": true, "Prod.EU_1": true, strings.Repeat("x", 253): true,
		"": false, strings.Repeat("x", 254): false, "arn:aws:eks:eu-west-1:123456789012:cluster/prod": false, "a b": false, "a\n": false, "-a": false,
	} {
		err := node.Accepts([]string{"--nodeid=n", "--policy=p", "--policy-key=k", "--cluster-name=" + name})
		if (err == nil) != want || !want && !strings.Contains(err.Error(), "--cluster-name") {
			t.Errorf("--cluster-name=%q: %v, want that it is taken: %v", name, err, want)
		}
		event.Source.Cluster = name
		if err := event.Validate(); (err == nil) != want {
			t.Errorf("an event of the cluster %q: %v, want that it is valid: %v", name, err, want)
		}
	}
}
