package shadow_test

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
)

var update = flag.Bool("update", false, "rewrite the table of metrics in docs/OPERATIONS.md")

// noting is a meter that writes down what is asked of it.
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

func TestOperationsDocumentsEveryMetric(t *testing.T) {
	var rows []string
	if err := newGate(t, policy{}, policy{}).Register(noting{rows: &rows}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(rows)
	const begin, end = "<!-- metrics:policy-shadow:begin -->\n", "<!-- metrics:policy-shadow:end -->"
	path := filepath.Join("..", "..", "docs", "OPERATIONS.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	have, after, closed := strings.Cut(rest, end)
	if !ok || !closed || len(rows) != 5 {
		t.Fatalf("docs/OPERATIONS.md has no block of metrics of the shadow, or there are not five: %q", rows)
	}
	want := "| metric | kind | meaning |\n|---|---|---|\n" + strings.Join(rows, "")
	if have == want {
		return
	}
	if !*update {
		t.Fatalf("the table of metrics is not current; go test ./policies/shadow -run Metric -update rewrites it\nhave:\n%s\nwant:\n%s", have, want)
	}
	if err := os.WriteFile(path, []byte(before+begin+want+end+after), 0o600); err != nil {
		t.Fatal(err)
	}
}
