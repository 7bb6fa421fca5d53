package metricdocs

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// Meter writes down which instruments are made with it, and measures nothing.
type Meter struct {
	noop.Meter

	rows *[]string
}

// New returns a Meter that was asked for nothing yet.
func New() Meter { return Meter{rows: new([]string)} }

func (m Meter) note(name, kind, description string) {
	*m.rows = append(*m.rows, fmt.Sprintf("| `%s` | %s | %s |\n", name, kind, description))
}

// Int64Counter notes a counter.
func (m Meter) Int64Counter(name string, o ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	m.note(name+"_total", "counter", metric.NewInt64CounterConfig(o...).Description())
	return m.Meter.Int64Counter(name, o...)
}

// Float64Histogram notes a histogram.
func (m Meter) Float64Histogram(name string, o ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	m.note(name, "histogram", metric.NewFloat64HistogramConfig(o...).Description())
	return m.Meter.Float64Histogram(name, o...)
}

// Int64ObservableGauge notes a gauge.
func (m Meter) Int64ObservableGauge(name string, o ...metric.Int64ObservableGaugeOption) (metric.Int64ObservableGauge, error) {
	m.note(name, "gauge", metric.NewInt64ObservableGaugeConfig(o...).Description())
	return m.Meter.Int64ObservableGauge(name, o...)
}

// Int64ObservableCounter notes a counter.
func (m Meter) Int64ObservableCounter(name string, o ...metric.Int64ObservableCounterOption) (metric.Int64ObservableCounter, error) {
	m.note(name+"_total", "counter", metric.NewInt64ObservableCounterConfig(o...).Description())
	return m.Meter.Int64ObservableCounter(name, o...)
}

// Check fails the test unless the block of this name, between the comments
// metrics:<block>:begin and :end, is the table of what was made, least instruments or
// more. With update it writes the table there.
func (m Meter) Check(t *testing.T, block string, least int, update bool) {
	t.Helper()
	slices.Sort(*m.rows)
	if len(*m.rows) < least {
		t.Fatalf("%d instruments were made, want at least %d: %q", len(*m.rows), least, *m.rows)
	}
	path := operations(t)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	now, err := replaced(string(text), block, "| metric | kind | meaning |\n|---|---|---|\n"+strings.Join(*m.rows, ""))
	switch {
	case err != nil:
		t.Fatal(err)
	case now == string(text):
	case !update:
		t.Fatalf("the table of metrics of %s is not current; go test . -run Metric -update rewrites it, want:\n%s", block, strings.Join(*m.rows, ""))
	default:
		if err := os.WriteFile(path, []byte(now), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// replaced is a text with another table in a block.
func replaced(text, block, table string) (string, error) {
	begin, end := "<!-- metrics:"+block+":begin -->\n", "<!-- metrics:"+block+":end -->"
	before, rest, ok := strings.Cut(text, begin)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return "", fmt.Errorf("docs/OPERATIONS.md has no block of metrics of %s", block)
	}
	return before + begin + table + end + after, nil
}

// operations finds the document above the folder of the test.
func operations(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		path := filepath.Join(dir, "docs", "OPERATIONS.md")
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	t.Fatal("there is no docs/OPERATIONS.md above this folder")
	return ""
}
