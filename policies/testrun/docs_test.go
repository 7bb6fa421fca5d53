package testrun_test

import (
	"os"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/policies/testrun"
)

func document(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/POLICIES.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// between returns what the page has between two marks.
func between(t *testing.T, from, to string) string {
	t.Helper()
	_, rest, ok := strings.Cut(document(t), from)
	text, _, ok2 := strings.Cut(rest, to)
	if !ok || !ok2 {
		t.Fatalf("docs/POLICIES.md has nothing between %q and %q", from, to)
	}
	return text
}

// TestDocumentedDefaultInput: the page shows the input that fixtures begin with.
func TestDocumentedDefaultInput(t *testing.T) {
	if got := between(t, "<!-- default-input:begin -->\n```json sample=default-input\n", "```\n<!-- default-input:end -->"); got != string(testrun.DefaultInput()) {
		t.Errorf("docs/POLICIES.md shows another default input than testrun.DefaultInput():\n%s", got)
	}
}
