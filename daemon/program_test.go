package daemon_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	"go.opentelemetry.io/otel/metric"

	"github.com/portcullis-csi/portcullis/daemon"
)

// The suffix says which build it is, and there is one plus in a version.
func TestVersionSaysWhichBuild(t *testing.T) {
	suffix := func(plain, insecure string) string {
		if daemon.Insecure {
			return insecure
		}
		return plain
	}
	for stamped, want := range map[string]string{
		"v1.2.3":     suffix("v1.2.3", "v1.2.3+insecure"),
		"v1.2.3+abc": suffix("v1.2.3+abc", "v1.2.3+abc.insecure"),
	} {
		if got := daemon.Version(stamped); got != want {
			t.Errorf("Version(%q) = %q, want %q", stamped, got, want)
		}
	}
	if got := daemon.Version(""); got == "" || strings.Count(got, "+") > 1 {
		t.Errorf("Version of an unstamped build = %q, want some version", got)
	}
}

func TestLogFlags(t *testing.T) {
	for name, test := range map[string]struct {
		args        []string
		json, debug bool
	}{
		"default": {nil, false, false},
		"json":    {[]string{"--log-format-json"}, true, false},
		"calls":   {[]string{"-v=4"}, false, true},
		"less":    {[]string{"--v=3"}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			var flags daemon.LogFlags
			set := pflag.NewFlagSet("prog", pflag.ContinueOnError)
			flags.Add(set)
			if err := set.Parse(test.args); err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			logger := flags.Logger(&b)
			logger.Info("hello")
			if json.Valid([]byte(b.String())) != test.json {
				t.Errorf("line %q is JSON: want %v", b.String(), test.json)
			}
			if logger.Enabled(t.Context(), slog.LevelDebug) != test.debug {
				t.Errorf("every call is logged: want %v", test.debug)
			}
		})
	}
}

// The directory is closed if nobody uses it yet, and refused with a remedy else.
func TestStateDirectoryIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := daemon.StateDirectory(dir + "/"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("state directory = %v, %v, want mode 0700", info, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if code := daemon.ExitCode(&b, "prog", daemon.StateDirectory(dir)); code != 2 || !strings.Contains(b.String(), "hint: run chmod 0700 "+dir) {
		t.Errorf("an open directory: exit code %d, %q, want 2 and the remedy", code, b.String())
	}
}

// Our metrics and those of a library stand on one page.
func TestMeterServesOtherRegistries(t *testing.T) {
	other := prometheus.NewRegistry()
	count := prometheus.NewCounter(prometheus.CounterOpts{Name: "library_calls_total", Help: "Calls."})
	other.MustRegister(count)
	count.Inc()
	meter, handler, err := daemon.Meter(daemon.Metering{Scope: "example.org/scope", Version: "v1", Others: []prometheus.Gatherer{other}})
	if err != nil {
		t.Fatal(err)
	}
	own, err := meter.Int64Counter("own_calls", metric.WithDescription("Calls."))
	if err != nil {
		t.Fatal(err)
	}
	own.Add(t.Context(), 2)
	w := httptest.NewRecorder()
	daemon.MetricsOnly(handler).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	for _, want := range []string{"library_calls_total 1\n", `own_calls_total{otel_scope_name="example.org/scope",otel_scope_schema_url="",otel_scope_version="v1"} 2`, "go_goroutines "} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("/metrics lacks %q:\n%s", want, w.Body)
		}
	}
	w = httptest.NewRecorder()
	daemon.MetricsOnly(handler).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/debug/pprof/", nil))
	if w.Code != http.StatusNotFound {
		t.Errorf("GET /debug/pprof/ where metrics are = %d, want 404", w.Code)
	}
}
