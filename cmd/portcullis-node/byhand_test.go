//go:build insecure

package main_test

import (
	"os"
	"strings"
	"testing"

	node "github.com/portcullis-csi/portcullis/cmd/portcullis-node"
)

// The plugin takes the command line of the instructions to install it by hand,
// which are for development builds.
func TestOperationsInstallsByHandWithFlagsThatExist(t *testing.T) {
	text, err := os.ReadFile(operations)
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Installing by hand\n")
	section, _, _ = strings.Cut(section, "\n## ")
	section = strings.ReplaceAll(section, "\\\n", " ")
	found := 0
	for line := range strings.Lines(section) {
		args, ok := strings.CutPrefix(line, "bin/insecure/portcullis-node ")
		if !ok {
			continue
		}
		found++
		args = strings.NewReplacer(`"$(hostname)"`, "node1", " &\n", "").Replace(args)
		if err := node.Accepts(strings.Fields(args)); err != nil {
			t.Errorf("portcullis-node %s: %v", args, err)
		}
	}
	if found == 0 {
		t.Errorf("%s does not say how to start the plugin by hand", operations)
	}
}
