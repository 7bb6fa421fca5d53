package main

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

	"github.com/portcullis-csi/portcullis/driver"
)

// meter returns a meter of upstream's scope and the handler of /metrics.
func meter() (metric.Meter, http.Handler, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	exporter, err := otelprom.New(otelprom.WithRegisterer(registry))
	if err != nil {
		return nil, nil, fmt.Errorf("make metrics exporter: %w", err)
	}
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter))
	return provider.Meter(driver.MeterScope, metric.WithInstrumentationVersion(version())),
		promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), nil
}

// endpoint is an HTTP address and what it serves.
type endpoint struct {
	flag, addr string
	handler    http.Handler
}

// serveHTTP serves until ctx ends. An empty address serves nothing.
func (e endpoint) serveHTTP(ctx context.Context, logger *slog.Logger) error {
	if e.addr == "" {
		return nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", e.addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", e.flag, err)
	}
	s := &http.Server{
		Handler: e.handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
	context.AfterFunc(ctx, func() { _ = s.Close() })
	go func() {
		if err := s.Serve(&crowd{Listener: l, most: maxGuests}); !errors.Is(err, http.ErrServerClosed) {
			logger.Error("endpoint stopped", slog.String(keyFlag, e.flag), slog.Any(keyError, err))
		}
	}()
	return nil
}

// metricsOnly serves /metrics and nothing else.
func metricsOnly(h http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", driver.OneByOne(h))
	return mux
}

// profiles serves what go tool pprof reads, as upstream's --enable-pprof does.
func profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}
