package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/metric"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/portcullis-csi/portcullis/admission"
	"github.com/portcullis-csi/portcullis/admission/certificates"
	"github.com/portcullis-csi/portcullis/admission/server"
	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/daemon"
	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/policies/kube/apiserver"
)

// What readiness says of a webhook that is not ready.
const (
	startingText = "the log is being read; hint: wait, and see the webhook's log if it takes minutes"
	unreadyText  = "no endpoint of the Service leads here; nodes decide all the same"
)

// hook is everything that runs, in the order it was made.
type hook struct {
	o         options
	logger    *slog.Logger
	audit     *daemon.Audit
	policy    *daemon.Policy
	inForce   atomic.Pointer[daemon.Policy] // for reports that come while parts are being made
	candidate *daemon.Candidate             // nil without --policy-shadow
	rest      *rest.Config                  // nil with --manifests
	reader    *apiserver.Reader
	facts     admission.Facts
	keeper    keeper
	served    *certificates.Served // nil with --manifests
	server    *server.Server
	meter     metric.Meter
	metrics   http.Handler
	health    *daemon.Health
	closers   []func() error

	listener    net.Listener
	unprotected error        // why the process may be swapped or dumped
	stopReason  audit.Reason // why the process ends
	hup         chan os.Signal
}

// start builds the webhook and serves until ctx ends.
func start(ctx context.Context, o options) (err error) {
	h := &hook{o: o, logger: o.log.Logger(os.Stderr), health: daemon.NewHealth(startingText, unreadyText), stopReason: audit.ReasonSignal, hup: make(chan os.Signal, 1)}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	// From the first moment to the last: where nobody takes it, it ends the process.
	signal.Notify(h.hup, syscall.SIGHUP)
	apiserver.LogTo(h.logger)
	ctrllog.SetLogger(klog.NewKlogr())
	o.development.warn(h.logger)
	// It holds its own keys and what people write into manifests, and no secret of
	// a pod: what cannot be had is a warning.
	if _, h.unprotected = hardening.ProtectProcess(); h.unprotected != nil {
		h.logger.Warn("process not protected", slog.Any(keyError, h.unprotected))
	}
	defer func() { err = errors.Join(err, h.close()) }()
	// Until the last answer was given, not only until the signal.
	open, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	if err := (daemon.Endpoint{Flag: "--health-addr", Addr: o.healthAddr, Handler: h.health}).Serve(open, h.logger); err != nil {
		return err
	}
	if err := h.build(ctx); err != nil {
		h.stopReason = audit.ReasonFatalError
		return err
	}
	return h.serve(ctx, open)
}

// build makes the parts. What refuses to start refuses before the port is open.
func (h *hook) build(ctx context.Context) error {
	if err := h.openState(); err != nil {
		return err
	}
	for _, part := range []func(context.Context) error{
		h.openAudit, h.openFacts, h.openCandidate, h.openPolicy, h.openMeter, h.measure, h.openCertificates, h.openHooks,
	} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (h *hook) openMeter(context.Context) (err error) {
	h.meter, h.metrics, err = daemon.Meter(daemon.Metering{Scope: admission.MeterScope, Version: version(), Others: []prometheus.Gatherer{ctrlmetrics.Registry}})
	return err
}

// close ends the parts in the opposite order of their making.
func (h *hook) close() error {
	var errs []error
	for i := len(h.closers) - 1; i >= 0; i-- {
		errs = append(errs, h.closers[i]())
	}
	err := errors.Join(errs...)
	if err == nil {
		h.logger.Info("stopped")
	}
	return err
}
