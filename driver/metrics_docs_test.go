package driver_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/portcullis-csi/portcullis/driver"
)

// noting is a meter that writes down what is asked of it.
type noting struct {
	noop.Meter
	rows *[]string
}

func (m noting) note(name, kind, description string) {
	*m.rows = append(*m.rows, fmt.Sprintf("| `%s` | %s | %s |\n", name, kind, description))
}

func (m noting) Int64Counter(name string, o ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	m.note(name+"_total", "counter", metric.NewInt64CounterConfig(o...).Description())
	return m.Meter.Int64Counter(name, o...)
}

func (m noting) Float64Histogram(name string, o ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	m.note(name, "histogram", metric.NewFloat64HistogramConfig(o...).Description())
	return m.Meter.Float64Histogram(name, o...)
}

func (m noting) Int64ObservableGauge(name string, o ...metric.Int64ObservableGaugeOption) (metric.Int64ObservableGauge, error) {
	m.note(name, "gauge", metric.NewInt64ObservableGaugeConfig(o...).Description())
	return m.Meter.Int64ObservableGauge(name, o...)
}

func (m noting) Int64ObservableCounter(name string, o ...metric.Int64ObservableCounterOption) (metric.Int64ObservableCounter, error) {
	m.note(name+"_total", "counter", metric.NewInt64ObservableCounterConfig(o...).Description())
	return m.Meter.Int64ObservableCounter(name, o...)
}

func TestOperationsDocumentsEveryMetric(t *testing.T) {
	var rows []string
	driver.NewMetrics(t, noting{rows: &rows})
	slices.Sort(rows)
	const begin, end = "<!-- metrics:portcullis-node:begin -->\n", "<!-- metrics:portcullis-node:end -->"
	path := filepath.Join("..", "docs", "OPERATIONS.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	have, after, closed := strings.Cut(rest, end)
	if !ok || !closed || len(rows) < 10 {
		t.Fatalf("docs/OPERATIONS.md has no block of metrics, or there are only %d", len(rows))
	}
	want := "| metric | kind | meaning |\n|---|---|---|\n" + strings.Join(rows, "")
	if have == want {
		return
	}
	if !*update {
		t.Fatalf("the table of metrics is not current; go test ./driver -run Metric -update rewrites it\nhave:\n%s\nwant:\n%s", have, want)
	}
	if err := os.WriteFile(path, []byte(before+begin+want+end+after), 0o600); err != nil {
		t.Fatal(err)
	}
}
