package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/portcullis-csi/portcullis/hardening"
)

const (
	// maxRequestBytes holds 64 KiB of parameters, escaped, and tokens.
	maxRequestBytes = 1 << 20
	maxCalls        = 64
	stopTimeout     = 10 * time.Second
)

// start protects the process and serves until ctx ends.
func start(ctx context.Context, o options) error {
	report, err := hardening.ProtectProcess()
	if err != nil {
		return fmt.Errorf("protect process: %w", err)
	}
	var handler slog.Handler = slog.NewTextHandler(os.Stderr, nil)
	if o.logJSON {
		handler = slog.NewJSONHandler(os.Stderr, nil)
	}
	logger := slog.New(handler)
	p, err := newProvider(o, logger)
	if err != nil {
		return err
	}
	defer p.store.root.Close()
	path, err := hardening.ParseEndpoint(o.endpoint)
	if err != nil {
		return err
	}
	l, err := hardening.Listen(ctx, path)
	if err != nil {
		return err
	}
	logger.InfoContext(ctx, "serving", slog.String(keyEndpoint, path), slog.Bool(keyLocked, report.Locked))
	// The plugin looks for the socket at each call, so that a provider which stops
	// need not leave it; and nobody else would after an uninstallation.
	return errors.Join(serve(ctx, l, p), l.Remove())
}

func newProvider(o options, logger *slog.Logger) (*provider, error) {
	if err := checkOutside(o.root, o.stateDir); err != nil {
		return nil, err
	}
	v, err := openVersions(o.stateDir)
	if err != nil {
		return nil, err
	}
	s, err := openStore(o.root, o.maxFileBytes)
	if err != nil {
		return nil, err
	}
	return &provider{store: s, versions: v, logger: logger}, nil
}

// serve answers on l until ctx ends, then finishes what runs, for a while.
func serve(ctx context.Context, l net.Listener, p *provider) error {
	s := grpc.NewServer(grpc.MaxRecvMsgSize(maxRequestBytes), grpc.MaxConcurrentStreams(maxCalls))
	v1alpha1.RegisterCSIDriverProviderServer(s, p)
	drained := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(drained)
		kill := time.AfterFunc(stopTimeout, s.Stop)
		defer kill.Stop()
		s.GracefulStop()
	})
	if err := s.Serve(l); stop() {
		return fmt.Errorf("serve: %w", err)
	}
	<-drained
	return nil
}
