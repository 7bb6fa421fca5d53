package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/daemon"
	"github.com/portcullis-csi/portcullis/driver"
	"github.com/portcullis-csi/portcullis/driver/provider"
	"github.com/portcullis-csi/portcullis/driver/registration"
	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/kube/apiserver"
)

// What readiness says of a plugin that is not ready.
const (
	startingText = "the log and the mount table are being read; hint: wait, and see the plugin's log if it takes minutes"
	unreadyText  = "nothing is granted; unmounting works"
)

// plugin is everything that runs, in the order it was made.
type plugin struct {
	o         options
	logger    *slog.Logger
	volumes   *hardening.System
	audit     *daemon.Audit
	recorder  *audit.Recorder
	policy    *daemon.Policy
	candidate *daemon.Candidate // nil without --policy-shadow
	facts     facts
	cluster   *cluster // nil with --manifests
	records   *driver.Records
	deliverer *provider.Deliverer
	driver    *driver.Driver
	metrics   http.Handler
	closers   []func() error

	confinement hardening.Confinement
	health      *daemon.Health

	stopReason audit.Reason // why the process ends
	hup        chan os.Signal

	// What reports of policy need, which may come while parts are being made.
	inForce   atomic.Pointer[daemon.Policy]
	redecider atomic.Pointer[driver.Driver]

	providers *provider.Watch
	registrar *registration.Registrar // nil where a sidecar registers the plugin
}

// start builds the plugin and serves until ctx ends.
func start(ctx context.Context, o options) (err error) {
	p := &plugin{o: o, logger: o.log.Logger(os.Stderr), health: daemon.NewHealth(startingText, unreadyText), stopReason: audit.ReasonSignal, hup: make(chan os.Signal, 1)}
	if p.confinement, err = hardening.Confine(hardening.Profile{
		OtherOwners: len(o.providerUIDs) > 0, Args: os.Args, Env: os.Environ(),
	}); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	// From the first moment to the last: where nobody takes it, it ends the process.
	signal.Notify(p.hup, syscall.SIGHUP)
	o.development.warn(p.logger)
	p.reportConfinement()
	report, err := hardening.ProtectProcess()
	if err != nil {
		return err
	}
	p.logger.Info("process protected", slog.Bool(keyDumpable, report.Dumpable), slog.Bool(keyLocked, report.Locked), slog.String(keyUnlocked, report.LockReason))
	defer func() { err = errors.Join(err, p.close()) }()
	if err := (daemon.Endpoint{Flag: "--health-addr", Addr: p.o.healthAddr, Handler: p.health}).Serve(ctx, p.logger); err != nil {
		return err
	}
	if err := p.build(ctx); err != nil {
		p.stopReason = audit.ReasonFatalError
		return err
	}
	return p.serve(ctx)
}

// build makes the parts. What refuses to start refuses before the socket is
// there, so that kubelet never meets half a plugin.
func (p *plugin) build(ctx context.Context) error {
	if err := daemon.StateDirectory(p.o.stateDir); err != nil {
		return err
	}
	for _, part := range []func(context.Context) error{
		p.openAudit, p.openCandidate, p.openPolicy, p.openFacts, p.openVolumes, p.makeDriver,
	} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (p *plugin) openVolumes(context.Context) error {
	setting, err := hardening.ParseSetting(p.o.swapProtection)
	if err != nil {
		return err
	}
	p.volumes, err = hardening.Open(hardening.Config{KubeletRoot: p.o.kubeletRoot, Protection: setting, SELinuxContext: p.o.selinuxContext, Proc: p.o.hostProc})
	if err != nil {
		return err
	}
	p.closers = append(p.closers, p.volumes.Close)
	if err := p.volumes.SeesNode(); err != nil {
		p.logger.Warn("volumes whose pod is gone will not be removed", slog.Any(keyError, err))
	}
	p.logger.Info("volumes are kept out of swap", slog.String(keyProtect, string(p.volumes.Protection())))
	return nil
}

func (p *plugin) openPolicy(ctx context.Context) error {
	c := daemon.PolicyConfig{
		Flags: p.o.policy, StateDir: p.o.stateDir, AllowUnsigned: p.o.development.allowsUnsigned(),
		Audit: p.audit, Logger: p.logger, Version: version(), Reported: p.policyReported,
	}
	if p.o.policy.Floor != "" && p.o.development.manifestDir() == "" {
		var err error
		if c.REST, err = apiserver.Load(p.o.kubeconfig); err != nil {
			return p.unreadable(err)
		}
	}
	var err error
	if p.policy, err = daemon.OpenPolicy(ctx, c); err != nil {
		return err
	}
	p.inForce.Store(p.policy)
	p.closers = append(p.closers, p.policy.Close)
	return nil
}

// policyReported has mounted volumes decided on by another bundle in force. The
// first is reported before there is a driver, which looks at its start by itself.
func (p *plugin) policyReported(r bundle.Report) {
	if r.Bundle.Data != nil && r.Err == nil {
		p.candidate.Loaded(r.Bundle)
	}
	if d := p.redecider.Load(); d != nil {
		d.PolicyChanged()
	}
}

func (p *plugin) makeDriver(context.Context) error {
	var err error
	if p.records, err = driver.OpenRecords(p.o.stateDir, p.logger); err != nil {
		return err
	}
	p.closers = append(p.closers, p.records.Close)
	verifier, err := p.verifier()
	if err != nil {
		return err
	}
	p.deliverer, err = provider.New(provider.Config{
		Dirs: p.o.providerDirs(), ProviderUIDs: p.o.providerUIDs, MaxReceiveBytes: p.o.maxReceiveBytes,
		Concurrency: p.o.providerConcurrent, Logger: p.logger,
	})
	if err != nil {
		return err
	}
	p.closers = append(p.closers, func() error { p.deliverer.Close(); return nil })
	p.providers = provider.NewWatch(p.deliverer)
	meter, metrics, err := daemon.Meter(daemon.Metering{Scope: driver.MeterScope, Version: version()})
	if err != nil {
		return err
	}
	p.metrics = metrics
	if err := p.policy.Measure(meter); err != nil {
		return err
	}
	config := driver.Config{
		DriverName: p.o.driverName, Version: version(), Node: p.o.nodeID, Cluster: p.o.clusterName, KubeletRoot: p.o.kubeletRoot,
		Volumes: p.volumes, Verifier: verifier, Classes: p.facts, Pods: p.facts, Policy: p.policy, Recorder: p.recorder, Deliverer: p.deliverer,
		Records: p.records, Meter: meter, Logger: p.logger,
		Rotation:       driver.Rotation{Enabled: p.o.rotation, Interval: p.o.rotationInterval},
		MaxVolumeBytes: p.o.maxVolumeBytes, MaxNodeBytes: p.o.maxNodeBytes, Providers: p.providers.Statuses,
	}
	p.tell(&config)
	if err := p.compare(&config); err != nil {
		return err
	}
	if p.driver, err = driver.New(config); err != nil {
		return err
	}
	p.redecider.Store(p.driver)
	return nil
}

// reloads triggers a policy reload at every SIGHUP.
func (p *plugin) reloads(ctx context.Context) {
	for {
		select {
		case <-p.hup:
			p.policy.Trigger()
			p.candidate.Trigger()
		case <-ctx.Done():
			return
		}
	}
}
