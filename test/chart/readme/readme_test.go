package readme_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/test/chart/readme"
)

var update = flag.Bool("update", false, "rewrite deploy/chart/README.md")

func TestREADMEIsCurrent(t *testing.T) {
	dir := filepath.Join("..", "..", "..", "deploy", "chart")
	want, err := readme.Of(dir)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "README.md")
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("deploy/chart/README.md is not what the chart says; run go test ./readme -update in test/chart (-want +got):\n%s", diff)
	}
}

func TestValues(t *testing.T) {
	got, err := readme.Values([]byte(`# Words at the top.

# -- A name, on
# two lines
name: ""
nothing: # -- not above
  # -- Below | a bar
  port: 8080
  deeper:
    # Why it is so.
    # -- Yes or no
    on: false

# -- A map as a whole
whole:
  a: [1, "2"]
# -- With a default of its own
# @default -- what the chart computes
computed: null
# -- A list
list: [a]
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []readme.Value{
		{"name", "string", "`\"\"`", "A name, on two lines"},
		{"nothing.port", "int", "`8080`", "Below | a bar"},
		{"nothing.deeper.on", "bool", "`false`", "Yes or no"},
		{"whole", "object", "`{\"a\":[1,\"2\"]}`", "A map as a whole"},
		{"computed", "null", "what the chart computes", "With a default of its own"},
		{"list", "list", "`[\"a\"]`", "A list"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Values (-want +got):\n%s", diff)
	}
}

func TestValuesWithoutDescriptionAreNamed(t *testing.T) {
	_, err := readme.Values([]byte("# -- Described\na: 1\nb: {}\nc:\n  d: [x]\n"))
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"values.yaml:3: b has no description", "values.yaml:5: c.d has no description", "hint:"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
	for _, text := range []string{"- a\n", "a: [\n", ""} {
		if _, err := readme.Values([]byte(text)); err == nil {
			t.Errorf("Values(%q) succeeded", text)
		}
	}
}

func TestREADMENeedsTheFactsOfTheChart(t *testing.T) {
	dir := t.TempDir()
	chart := "name: n\ndescription: a | chart\nversion: 1.0.0\nappVersion: 2.0.0\nkubeVersion: \">=1.30.0-0\"\n"
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("values.yaml", "# -- What it | is\na: \"x|y\"\n")
	write("Chart.yaml", chart)
	text, err := readme.Of(dir)
	if err != nil || !strings.Contains(text, "| 1.0.0 | 2.0.0 | >=1.30.0 | 3 and 4 |") || !strings.Contains(text, "| `a` | string | `\"x\\|y\"` | What it \\| is |\n") {
		t.Errorf("Of = %q, %v", text, err)
	}
	for line := range strings.Lines(chart) {
		name, _, _ := strings.Cut(line, ":")
		write("Chart.yaml", strings.Replace(chart, line, "", 1))
		if _, err := readme.Of(dir); err == nil || !strings.Contains(err.Error(), name+" is missing") {
			t.Errorf("Of without %s: %v", name, err)
		}
	}
}
