package lab

import (
	"context"
	"syscall"
	"time"

	"github.com/portcullis-csi/portcullis/test/cluster/node"
)

// Start starts a daemon that was stopped, and does not wait until it is ready.
func (l *Lab) Start(ctx context.Context, name string) error {
	_, err := node.Ask(ctx, l.dir, node.Request{Start: name})
	return err
}

// Stop ends a daemon with SIGKILL, and returns when it has ended.
func (l *Lab) Stop(ctx context.Context, name string) error {
	return l.stop(ctx, name, syscall.SIGKILL)
}

func (l *Lab) stop(ctx context.Context, name string, sig syscall.Signal) error {
	_, err := node.Ask(ctx, l.dir, node.Request{Stop: name, Signal: sig})
	return err
}

// Restart ends a daemon with a signal, and starts it again after some time. It
// does not wait until the daemon is ready.
func (l *Lab) Restart(ctx context.Context, name string, down time.Duration, sig syscall.Signal) error {
	if err := l.stop(ctx, name, sig); err != nil {
		return err
	}
	select {
	case <-time.After(down):
	case <-ctx.Done():
	}
	// Also when the time was cut short: the caller gets its node back whole.
	return l.Start(context.WithoutCancel(ctx), name)
}

// Pids are the processes of the daemons, as the node numbers them.
func (l *Lab) Pids(ctx context.Context) (map[string]int, error) {
	reply, err := node.Ask(ctx, l.dir, node.Request{Status: true})
	return reply.Pids, err
}
