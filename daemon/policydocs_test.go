package daemon_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/portcullis-csi/portcullis/daemon"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

var update = flag.Bool("update", false, "rewrite the table of metrics of policy in docs/OPERATIONS.md")

// noting is a meter that notes what is made.
type noting struct {
	noop.Meter

	rows *[]string
}

func (m noting) Int64ObservableGauge(name string, o ...metric.Int64ObservableGaugeOption) (metric.Int64ObservableGauge, error) {
	*m.rows = append(*m.rows, fmt.Sprintf("| `%s` | gauge | %s |\n", name, metric.NewInt64ObservableGaugeConfig(o...).Description()))
	return m.Meter.Int64ObservableGauge(name, o...)
}

func (m noting) Int64ObservableCounter(name string, o ...metric.Int64ObservableCounterOption) (metric.Int64ObservableCounter, error) {
	*m.rows = append(*m.rows, fmt.Sprintf("| `%s_total` | counter | %s |\n", name, metric.NewInt64ObservableCounterConfig(o...).Description()))
	return m.Meter.Int64ObservableCounter(name, o...)
}

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
	var rows []string
	if err := daemon.MeasurePolicy(noting{rows: &rows}, unsigned(t)); err != nil {
		t.Fatal(err)
	}
	slices.Sort(rows)
	const begin, end = "<!-- metrics:policy:begin -->\n", "<!-- metrics:policy:end -->"
	path := filepath.Join("..", "docs", "OPERATIONS.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	have, after, closed := strings.Cut(rest, end)
	if !ok || !closed || len(rows) != 5 {
		t.Fatalf("docs/OPERATIONS.md has no block of metrics of policy, or there are not five: %q", rows)
	}
	want := "| metric | kind | meaning |\n|---|---|---|\n" + strings.Join(rows, "")
	if have == want {
		return
	}
	if !*update {
		t.Fatalf("the table of metrics is not current; go test ./daemon -run Metric -update rewrites it\nhave:\n%s\nwant:\n%s", have, want)
	}
	if err := os.WriteFile(path, []byte(before+begin+want+end+after), 0o600); err != nil {
		t.Fatal(err)
	}
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
