package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
)

// Metering says what Meter makes.
type Metering struct {
	Scope   string // instrumentation scope
	Version string // of the program
	// Others are registries whose metrics are served beside ours; may be empty.
	Others []prometheus.Gatherer
}

// Meter returns a meter and the handler of its metrics.
func Meter(m Metering) (metric.Meter, http.Handler, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	exporter, err := otelprom.New(otelprom.WithRegisterer(registry))
	if err != nil {
		return nil, nil, fmt.Errorf("make metrics exporter: %w", err)
	}
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter))
	all := append(prometheus.Gatherers{registry}, m.Others...)
	return provider.Meter(m.Scope, metric.WithInstrumentationVersion(m.Version)), promhttp.HandlerFor(all, promhttp.HandlerOpts{}), nil
}

// Endpoint is an HTTP address and what it serves.
type Endpoint struct {
	Flag, Addr string // the address, and the flag that gave it
	Handler    http.Handler
}

// Serve serves until ctx ends. An empty address serves nothing.
func (e Endpoint) Serve(ctx context.Context, logger *slog.Logger) error {
	if e.Addr == "" {
		return nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", e.Addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", e.Flag, err)
	}
	s := &http.Server{
		Handler: e.Handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
	context.AfterFunc(ctx, func() { _ = s.Close() })
	go func() {
		if err := s.Serve(Crowd(l, MaxGuests)); !errors.Is(err, http.ErrServerClosed) {
			logger.Error("endpoint stopped", slog.String(keyFlag, e.Flag), slog.Any(keyError, err))
		}
	}()
	return nil
}

// MetricsOnly serves /metrics and nothing else.
func MetricsOnly(h http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", OneByOne(h))
	return mux
}

// Profiles serves what go tool pprof reads, as upstream's --enable-pprof does.
func Profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}
