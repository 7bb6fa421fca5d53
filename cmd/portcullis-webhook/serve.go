package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/daemon"
)

// answerTimeout bounds what is asked for a warning only.
const answerTimeout = time.Second

var (
	errInsecure  = errors.New("INSECURE BUILD; hint: install a release image")
	errEphemeral = errors.New("the audit log goes with the pod (--state-durable=false): its events are as durable as the sinks that have them; hint: set persistence in the chart's values")
	errRoot      = errors.New("the webhook runs as root, which it has no use for; hint: set runAsNonRoot: true and runAsUser: 65532")
	errPrivilege = errors.New("the webhook may gain privileges, which it has no use for; hint: set allowPrivilegeEscalation: false and drop all capabilities")
)

// serve answers API servers until ctx ends, and for a while longer; open ends with
// the process.
func (h *hook) serve(ctx, open context.Context) error {
	if _, err := h.audit.Announce(ctx); err != nil {
		h.logger.Error("the end of the log was not read whole", slog.Any(keyError, err))
	}
	if err := (daemon.Endpoint{Flag: "--metrics-addr", Addr: h.o.metricsAddr, Handler: daemon.MetricsOnly(h.metrics)}).Serve(open, h.logger); err != nil {
		return errors.Join(err, h.listener.Close())
	}
	go h.reloads(open)
	go h.watchPolicy(open)
	go h.candidate.Run(open, h.o.policy.PollInterval)
	h.watchCluster(open)
	go h.keeper.Run(open)
	h.health.Set(h.checks())
	h.logger.Info("serving", slog.String(keyListen, h.listener.Addr().String()), slog.String(keyVersion, version()), slog.String(keyReplica, h.o.replica))
	err := h.server.Serve(ctx, h.listener)
	if ctx.Err() == nil {
		h.stopReason = audit.ReasonFatalError
	}
	return err
}

// checks are the conditions of readiness.
func (h *hook) checks() []daemon.Check {
	return []daemon.Check{
		{Name: "operation", Err: h.server.Stopping},
		{Name: "policy", Err: h.policy.Ready},
		{Name: "policy source", Warning: true, Err: h.policy.Good},
		{Name: "policy floor", Warning: true, Err: h.policy.FloorKept},
		{Name: "policy shadow", Warning: true, Err: h.candidate.Ready},
		{Name: "audit log", Err: h.audit.Healthy},
		{Name: "durable audit log", Warning: true, Err: func() error { return unless(h.o.stateDurable, errEphemeral) }},
		{Name: "inputs of decisions", Warning: true, Err: h.audit.InputsReady},
		{Name: "trusted certificate", Err: h.certificateReady},
		{Name: "certificate rotation", Warning: true, Err: h.keeper.Failure},
		{Name: "API server", Warning: true, Err: h.clusterAnswers},
		{Name: "API server caches", Warning: true, Err: h.clusterReady},
		{Name: "admin socket", Warning: true, Err: h.audit.AdminServed},
		{Name: "release build", Warning: true, Err: func() error { return unless(!daemon.Insecure, errInsecure) }},
		{Name: "privileges", Warning: true, Err: unprivileged},
		{Name: "process protection", Warning: true, Err: func() error { return h.unprotected }},
	}
}

func unless(good bool, err error) error {
	if good {
		return nil
	}
	return err
}

func (h *hook) certificateReady() error {
	if h.served == nil {
		return nil // with --manifests there is no configuration
	}
	return h.served.Err()
}

// clusterAnswers returns why no facts can be read now.
func (h *hook) clusterAnswers() error {
	if h.reader == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	return h.reader.Trouble(ctx)
}

// watchCluster keeps the caches of facts.
func (h *hook) watchCluster(ctx context.Context) {
	if h.reader == nil {
		return
	}
	go func() {
		if err := h.reader.Run(ctx); err != nil {
			h.logger.Error("the API server is no longer watched", slog.Any(keyError, err))
		}
	}()
}

// clusterReady returns why facts may be read one by one for now.
func (h *hook) clusterReady() error {
	if h.reader == nil {
		return nil
	}
	return h.reader.Synced()
}

// unprivileged returns what the process has that it should not.
func unprivileged() error {
	if os.Geteuid() == 0 {
		return errRoot
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil //nolint:nilerr // nothing is known, and nothing depends on it
	}
	return unless(strings.Contains(string(status), "\nNoNewPrivs:\t1\n") && strings.Contains(string(status), "\nCapBnd:\t0000000000000000\n"), errPrivilege)
}
