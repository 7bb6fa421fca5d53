package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/daemon"
	"github.com/portcullis-csi/portcullis/hardening"
)

// sweepInterval lies between two looks for orphaned volumes.
const sweepInterval = time.Minute

var (
	errInsecure = errors.New("INSECURE BUILD; hint: install a release image")
)

// serve recovers what an earlier process left, then answers kubelet.
func (p *plugin) serve(ctx context.Context) error {
	if err := p.makeRegistrar(); err != nil {
		return err
	}
	p.watchCluster(ctx)
	intents, err := p.audit.Announce(ctx)
	if err != nil {
		// Their ends stay owed to a later start; volumes must be unmounted now.
		p.logger.Error("interrupted deliveries not found in the log", slog.Any(keyError, err))
	}
	hardening.FaultPoint("start/announced")
	if err := p.driver.Recover(intents); err != nil {
		return err
	}
	socket, err := hardening.ParseEndpoint(p.o.endpoint)
	if err != nil {
		return err
	}
	listener, err := hardening.Listen(ctx, socket)
	if err != nil {
		return err
	}
	hardening.FaultPoint("start/listening")
	if err := p.serveEndpoints(ctx); err != nil {
		return errors.Join(err, listener.Close())
	}
	go p.reloads(ctx)
	go p.watchPolicy(ctx)
	go p.candidate.Run(ctx, p.o.policy.PollInterval)
	registered := make(chan struct{})
	go func() {
		defer close(registered)
		p.register(ctx)
	}()
	p.tellCluster(ctx)
	defer beside(ctx, p.driver.Reauthorise, p.sweepOrphans, p.watchProviders)()
	p.logger.Info("serving", slog.String(keyEndpoint, p.o.endpoint), slog.String(keyVersion, version()), slog.String(keyNode, p.o.nodeID))
	err = p.driver.Serve(ctx, listener)
	if ctx.Err() == nil {
		p.stopReason = audit.ReasonFatalError
		return err
	}
	<-registered
	return errors.Join(err, p.withdraw(listener))
}

func (p *plugin) serveEndpoints(ctx context.Context) error {
	endpoints := []daemon.Endpoint{
		{Flag: "--metrics-addr", Addr: p.o.metricsAddr, Handler: daemon.MetricsOnly(p.metrics)},
	}
	if p.o.pprof {
		// Upstream listens on every interface; here profiles stay on the node.
		endpoints = append(endpoints, daemon.Endpoint{Flag: "--pprof-port", Addr: net.JoinHostPort("127.0.0.1", p.o.pprofPort), Handler: daemon.Profiles()})
	}
	for _, e := range endpoints {
		if err := e.Serve(ctx, p.logger); err != nil {
			return err
		}
	}
	p.health.Set(p.checks())
	return nil
}

// beside runs works until stop has been called, which returns once all have ended:
// what is closed then, the log and the descriptors of volumes, nobody uses any more.
func beside(ctx context.Context, works ...func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	for _, work := range works {
		running.Go(func() { work(ctx) })
	}
	return func() {
		cancel()
		running.Wait()
	}
}

// sweepOrphans looks for volumes that nobody will unpublish.
func (p *plugin) sweepOrphans(ctx context.Context) {
	ticker := time.NewTicker(sweepInterval)
	defer ticker.Stop()
	for {
		p.driver.Sweep(ctx)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func (p *plugin) watchPolicy(ctx context.Context) {
	if err := p.policy.Run(ctx, p.o.policy.PollInterval); err != nil && ctx.Err() == nil {
		p.logger.Error("policy is no longer watched", slog.Any(keyError, err))
	}
}

// checks are the conditions of readiness: of granting, not of unmounting.
func (p *plugin) checks() []daemon.Check {
	return []daemon.Check{
		{Name: "policy", Err: p.policy.Ready},
		{Name: "policy source", Warning: true, Err: p.policy.Good},
		{Name: "policy floor", Warning: true, Err: p.policy.FloorKept},
		{Name: "policy shadow", Warning: true, Err: p.candidate.Ready},
		{Name: "audit log", Err: p.audit.Healthy},
		{Name: "inputs of decisions", Warning: true, Err: p.audit.InputsReady},
		{Name: "kubelet registration", Err: p.registered},
		{Name: "CSIDriver object", Err: p.driverObjectReady},
		{Name: "CSIDriver object's other fields", Warning: true, Err: p.driverObjectComplete},
		{Name: "API server", Warning: true, Err: p.clusterAnswers},
		{Name: "API server caches", Warning: true, Err: p.clusterReady},
		{Name: "provider sockets", Warning: true, Err: p.providersPresent},
		{Name: "admin socket", Warning: true, Err: p.audit.AdminServed},
		{Name: "release build", Warning: true, Err: func() error {
			if daemon.Insecure {
				return errInsecure
			}
			return nil
		}},
		{Name: "system call filter", Warning: true, Err: p.confined},
		{Name: "swap protection", Warning: true, Err: p.protectionReady},
	}
}

func (p *plugin) protectionReady() error {
	if err := p.driver.Unlocked(); err != nil {
		return fmt.Errorf("pages of some volumes are not locked: %w", err)
	}
	if p.volumes.Protection() == hardening.ProtectionMlock {
		return errors.New("mlock protects volumes only while this process runs; hint: Linux 6.4 has noswap")
	}
	return nil
}

// close ends the parts in the opposite order of their making.
func (p *plugin) close() error {
	var errs []error
	for i := len(p.closers) - 1; i >= 0; i-- {
		errs = append(errs, p.closers[i]())
	}
	err := errors.Join(errs...)
	if err == nil {
		p.logger.Info("stopped")
	}
	return err
}
