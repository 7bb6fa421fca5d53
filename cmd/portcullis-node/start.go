package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/inputs"
	auditlog "github.com/portcullis-csi/portcullis/audit/log"
	"github.com/portcullis-csi/portcullis/driver"
	"github.com/portcullis-csi/portcullis/driver/provider"
	"github.com/portcullis-csi/portcullis/driver/registration"
	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/policies/bundle"
)

// drainTimeout bounds how long a stopping plugin writes owed events.
const drainTimeout = 10 * time.Second

// plugin is everything that runs, in the order it was made.
type plugin struct {
	o         options
	logger    *slog.Logger
	volumes   *hardening.System
	log       *auditlog.Log
	recorder  *audit.Recorder
	inputs    *inputs.Store // nil where inputsErr says why
	inputsErr error
	policy    *bundle.Source
	facts     facts
	cluster   *cluster // nil with --manifests
	records   *driver.Records
	deliverer *provider.Deliverer
	driver    *driver.Driver
	metrics   http.Handler
	closers   []func() error

	confinement hardening.Confinement
	health      health

	activePolicy string       // digest of the bundle in force; used by one reload at a time
	stopReason   audit.Reason // why the process ends
	hup          chan os.Signal

	logFailure   error                 // why log is nil
	adminFailure atomic.Pointer[error] // why the admin socket is not served

	providers *provider.Watch
	registrar *registration.Registrar // nil where a sidecar registers the plugin
}

// start builds the plugin and serves until ctx ends.
func start(ctx context.Context, o options) (err error) {
	p := &plugin{o: o, logger: newLogger(o), stopReason: audit.ReasonSignal, hup: make(chan os.Signal, 1)}
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
	if err := p.serveHealth(ctx); err != nil {
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
	if err := stateDirectory(p.o.stateDir); err != nil {
		return err
	}
	for _, part := range []func(context.Context) error{
		p.openAudit, p.openAdmin, p.openPolicy, p.openFacts, p.openVolumes, p.makeDriver,
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
	var err error
	p.policy, err = bundle.NewSource(bundle.Config{
		Verifier: bundle.Path(p.o.policy), AllowUnsigned: p.o.development.allowsUnsigned(), Report: p.reportPolicy,
	})
	if err != nil {
		return err
	}
	if err := p.policy.Reload(ctx); err != nil {
		if errors.Is(err, bundle.ErrUnsigned) {
			return err
		}
		// A bundle that is broken today may be mended while the plugin runs;
		// until then nothing is granted and unmounting works.
		p.logger.Error("no active policy, nothing will be granted", slog.Any(keyError, err))
	}
	return nil
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
	meter, metrics, err := meter()
	if err != nil {
		return err
	}
	p.metrics = metrics
	config := driver.Config{
		DriverName: p.o.driverName, Version: version(), Node: p.o.nodeID, Cluster: p.o.clusterName, KubeletRoot: p.o.kubeletRoot,
		Volumes: p.volumes, Verifier: verifier, Classes: p.facts, Pods: p.facts, Policy: p.policy, Recorder: p.recorder, Deliverer: p.deliverer,
		Records: p.records, Meter: meter, Logger: p.logger,
		Rotation:       driver.Rotation{Enabled: p.o.rotation, Interval: p.o.rotationInterval},
		MaxVolumeBytes: p.o.maxVolumeBytes, MaxNodeBytes: p.o.maxNodeBytes, Providers: p.providers.Statuses,
	}
	p.tell(&config)
	p.driver, err = driver.New(config)
	return err
}

// stateDirectory makes the directory for log and records, for root alone.
func stateDirectory(dir string) error {
	err := hardening.PrivateDirectory("--state-dir", filepath.Clean(dir))
	if wrong, ok := errors.AsType[*hardening.ConfigError](err); ok {
		return &usageError{wrong.Field + ": " + wrong.Reason, wrong.Remedy}
	}
	return err
}

func newLogger(o options) *slog.Logger {
	level := slog.LevelInfo
	if o.verbosity >= 4 {
		level = slog.LevelDebug
	}
	return slog.New(handler(os.Stderr, o.logJSON, level))
}

func handler(w io.Writer, json bool, level slog.Level) slog.Handler {
	options := &slog.HandlerOptions{Level: level}
	if json {
		return slog.NewJSONHandler(w, options)
	}
	return slog.NewTextHandler(w, options)
}

// reloads triggers a policy reload at every SIGHUP.
func (p *plugin) reloads(ctx context.Context) {
	for {
		select {
		case <-p.hup:
			p.policy.Trigger()
		case <-ctx.Done():
			return
		}
	}
}
