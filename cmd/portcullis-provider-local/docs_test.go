package main_test

import (
	"os"
	"strings"
	"testing"

	local "github.com/portcullis-csi/portcullis/cmd/portcullis-provider-local"
)

// The provider takes the command line of the instructions to install by hand.
func TestOperationsStartsTheProviderWithFlagsThatExist(t *testing.T) {
	const operations, program = "../../docs/OPERATIONS.md", "bin/insecure/portcullis-provider-local --"
	text, err := os.ReadFile(operations)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, program) {
			continue
		}
		found++
		args := strings.Fields(strings.TrimSuffix(line, " &\n"))
		if err := local.Accepts(args[1:]); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	if found == 0 {
		t.Errorf("%s does not say how to start the provider", operations)
	}
}
