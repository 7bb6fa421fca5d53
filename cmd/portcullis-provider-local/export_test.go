package main

import (
	"context"
	"log/slog"
	"net"

	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// Config is what the flags say.
type Config struct {
	Root, StateDir string
	MaxFileBytes   int64
	Logger         *slog.Logger
	AfterRead      func() // between reading a file and looking whether it changed
}

// Provider is the server under test.
type Provider = provider

// NewProvider makes a provider as start does.
func NewProvider(c Config) (*Provider, error) {
	p, err := newProvider(options{root: c.Root, stateDir: c.StateDir, maxFileBytes: c.MaxFileBytes}, c.Logger)
	if err == nil {
		p.store.afterRead = c.AfterRead
	}
	return p, err
}

// Close releases the root.
func (p *provider) Close() error { return p.store.root.Close() }

// Serve answers on a listener.
func Serve(ctx context.Context, l net.Listener, p *Provider) error { return serve(ctx, l, p) }

// Run is the program.
func Run(args []string) int { return run(args) }

// Accepts returns why the command line would not start.
func Accepts(args []string) error {
	cmd := newCommand(func(context.Context, options) error { return nil })
	cmd.SetArgs(args)
	return cmd.Execute()
}

// ErrInside is a refusal to start.
var ErrInside = errInside

var _ v1alpha1.CSIDriverProviderServer = (*Provider)(nil)
