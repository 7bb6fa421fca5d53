package daemon_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/daemon"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
	"github.com/portcullis-csi/portcullis/test/metricdocs"
)

var update = flag.Bool("update", false, "rewrite the table of metrics of policy in docs/OPERATIONS.md")

// unsigned is a source of an unsigned bundle.
func unsigned(t *testing.T) *bundle.Source {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bundle.tar.gz")
	publishCandidate(t, path, "1", policiestest.Grants)
	s, err := bundle.NewSource(bundle.Config{Verifier: bundle.Path(path), AllowUnsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOperationsDocumentsEveryMetricOfPolicy(t *testing.T) {
	m := metricdocs.New()
	if err := daemon.MeasurePolicy(m, unsigned(t)); err != nil {
		t.Fatal(err)
	}
	m.Check(t, "policy", 5, *update)
}

// What the table names is served under that name, each reason of the closed list
// from the start: an alert on a series that does not exist yet is silent.
func TestMetricsOfPolicyAreServed(t *testing.T) {
	p := &daemon.Policy{Source: unsigned(t)}
	text := scrape(t, p)
	for _, reason := range bundle.Reasons() {
		if want := fmt.Sprintf("reason=%q} 0\n", reason); !strings.Contains(text, want) {
			t.Errorf("no series with %q", want)
		}
	}
	if strings.Contains(text, "portcullis_policy_bundle_info{") || strings.Contains(text, "portcullis_policy_bundle_age_seconds{") {
		t.Errorf("a process without policy says that it has some:\n%s", text)
	}
	if err := p.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	text = scrape(t, p)
	for _, want := range []string{`digest="` + p.Active().Digest() + `"`, `origin="source"`, `contract="portcullis/v1"`, "portcullis_policy_break_glass{"} {
		if !strings.Contains(text, want) {
			t.Errorf("metrics lack %s:\n%s", want, text)
		}
	}
}

// Each reason why a bundle is not put in force has its row, with what to do.
func TestOperationsDocumentsEveryReason(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "OPERATIONS.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\n### Signed policy that does not come\n")
	section, _, found := strings.Cut(rest, "\n## ")
	if !found {
		t.Fatal("docs/OPERATIONS.md has no section on policy that does not come")
	}
	rows := map[string]bool{}
	for line := range strings.Lines(section) {
		if cells := strings.Split(line, " | "); len(cells) == 4 {
			for reason := range strings.SplitSeq(cells[1], ", ") {
				rows[strings.Trim(reason, "`")] = true
			}
		}
	}
	for _, r := range bundle.Reasons() {
		if !rows[string(r)] {
			t.Errorf("the table has no row for the reason %s", r)
		}
	}
}
