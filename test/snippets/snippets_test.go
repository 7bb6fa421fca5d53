package snippets_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/test/snippets"
)

func TestExtract(t *testing.T) {
	got, err := snippets.Extract("# A\n\n## First\n\n```sh run root exit=3\nfalse\n```\n\n```text output\nno\n```\n## Second\n```yaml file=a/b.yaml\na: 1\n\nb: 2\n```\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []snippets.Block{
		{Line: 5, Section: "First", Language: "sh", Kind: snippets.Run, Exit: 3, Root: true, Text: "false\n"},
		{Line: 9, Section: "First", Language: "text", Kind: snippets.Output, Text: "no\n"},
		{Line: 13, Section: "Second", Language: "yaml", Kind: snippets.File, Name: "a/b.yaml", Text: "a: 1\n\nb: 2\n"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Extract() differs (-want +got):\n%s", diff)
	}
	const mixed = "## Other\n```sh\nfalse\n```\n## First\n```sh run\ntrue\n```\n## Second\n```\nx\n```\n"
	got, err = snippets.Extract(mixed, "First")
	if diff := cmp.Diff([]snippets.Block{{Line: 6, Section: "First", Language: "sh", Kind: snippets.Run, Text: "true\n"}}, got); err != nil || diff != "" {
		t.Errorf("Extract(First) = %v, differs (-want +got):\n%s", err, diff)
	}
	if _, err := snippets.Extract(mixed, "First", "Second"); err == nil {
		t.Error("Extract(First, Second) = nil, want an error: a block of Second says nothing")
	}
	got, err = snippets.Extract("## A\n```sh run cluster within=1m30s exit=1\nfalse\n```\n")
	if diff := cmp.Diff([]snippets.Block{{Line: 2, Section: "A", Language: "sh", Kind: snippets.Run, Exit: 1, Cluster: true, Within: 90 * time.Second, Text: "false\n"}}, got); err != nil || diff != "" {
		t.Errorf("Extract() = %v, differs (-want +got):\n%s", err, diff)
	}
	for _, bad := range []string{
		"```sh run within=soon\nx\n```\n", "```sh run within=-1s\nx\n```\n", "```text output within=1s\nx\n```\n",
		"```\nx\n```\n", "```sh\nx\n```\n", "```sh run\nx\n", "```yaml file=\nx\n```\n", "```sh run exit=x\nx\n```\n",
	} {
		if _, err := snippets.Extract(bad); err == nil {
			t.Errorf("Extract(%q) = nil, want an error", bad)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		shown, output string
		want          bool
	}{
		{"a\n", "a\n", true}, {"a\n", "a", true}, {"a\n", "a  \n", true}, {"a\n", "b\n", false}, {"a\n", "a\nb\n", false},
		{"a\n...\n", "a\nb\nc\n", true}, {"...\nc\n", "a\nb\nc\n", true}, {"a\n...\nc\n", "a\nc\n", true}, {"a\n...\nc\n", "a\nc\nd\n", false},
		{"sha256:... (1.5)\n", "sha256:abc (1.5)\n", true}, {"sha256:... (1.5)\n", "sha256:abc (1x5)\n", false}, {"", "", true}, {"", "a\n", false},
	} {
		if got := snippets.Matches(c.shown, c.output); got != c.want {
			t.Errorf("Matches(%q, %q) = %v, want %v", c.shown, c.output, got, c.want)
		}
	}
}

// What takes a while is looked at again, and never for longer than the document says.
func TestReaderWaits(t *testing.T) {
	dir := t.TempDir()
	var printed strings.Builder
	r := snippets.Reader{Dir: dir, Env: os.Environ(), Printed: &printed}
	const counts = "echo x >> tries; test $(wc -l < tries) -lt 2 && exit 1; wc -l < tries\n"
	follow := func(within time.Duration, shown string) error {
		t.Helper()
		if err := os.RemoveAll(filepath.Join(dir, "tries")); err != nil {
			t.Fatal(err)
		}
		printed.Reset()
		return r.Follow(t.Context(), []snippets.Block{
			{Line: 1, Kind: snippets.Run, Within: within, Text: counts}, {Line: 2, Kind: snippets.Output, Text: shown},
		})
	}
	if err := follow(0, "2\n"); err == nil || !strings.Contains(err.Error(), "line 1: exit code 1") {
		t.Errorf("Follow() = %v, want the first try to fail without a second", err)
	}
	if err := follow(30*time.Second, "2\n"); err != nil || printed.String() != "2\n" {
		t.Errorf("Follow(30s) = %v, printed %q, want the second try as shown", err, printed.String())
	}
	if err := follow(30*time.Second, "3\n"); err != nil || printed.String() != "3\n" {
		t.Errorf("Follow(30s) = %v, printed %q, want another try where it is not as shown", err, printed.String())
	}
	begin := time.Now()
	if err := follow(3*time.Second, "no\n"); err == nil || !strings.Contains(err.Error(), "line 2: the document shows") || time.Since(begin) > 20*time.Second {
		t.Errorf("Follow(3s) = %v after %v, want what was printed last beside what is shown", err, time.Since(begin))
	}
}
