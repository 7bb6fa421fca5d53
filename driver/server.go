package driver

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// callTimeout bounds every call: kubelet gives up after two minutes and calls
// again, so an answer that comes later is lost.
const callTimeout = 110 * time.Second

// Serve answers CSI calls on l until ctx ends, then finishes the calls that run.
func (d *Driver) Serve(ctx context.Context, l net.Listener) error {
	s := grpc.NewServer(grpc.UnaryInterceptor(d.intercept), grpc.MaxConcurrentStreams(maxCalls))
	csi.RegisterIdentityServer(s, d)
	csi.RegisterNodeServer(s, d)
	drained := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(drained)
		s.GracefulStop()
	})
	err := s.Serve(l)
	if stop() {
		return fmt.Errorf("serve CSI: %w", err)
	}
	// Serve returns when the listener closes; the calls that run still need
	// the log and the volumes that our caller is about to close.
	<-drained
	return nil
}

// maxCalls bounds the calls of one connection; kubelet sends at most a few for
// each pod of a node.
const maxCalls = 1024

// intercept bounds a call in time, keeps a panic from ending the process, and
// logs method and code. It never looks into a request or a reply: there are
// tokens in them (CVE-2023-2878).
func (d *Driver) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	begin := time.Now()
	defer func() {
		if p := recover(); p != nil {
			// The stack has no values in it; the panic's text might.
			d.c.Logger.ErrorContext(ctx, "call panicked", slog.String(keyMethod, info.FullMethod), slog.String(keyStack, string(debug.Stack())))
			resp, err = nil, status.Error(codes.Unavailable, "internal error; hint: see the plugin's log and report it")
		}
		d.c.Logger.DebugContext(ctx, "call", slog.String(keyMethod, info.FullMethod),
			slog.String(keyCode, status.Code(err).String()), slog.Duration(keyDuration, time.Since(begin)))
	}()
	return next(ctx, req)
}
