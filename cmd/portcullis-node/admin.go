package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"github.com/portcullis-csi/portcullis/audit/admin"
	auditlog "github.com/portcullis-csi/portcullis/audit/log"
	"github.com/portcullis-csi/portcullis/hardening"
)

// openAdmin serves the admin socket from now until the plugin stops. Without
// it nobody can look at the log of a running plugin; that is no reason not to
// mount and unmount, so readiness only warns.
func (p *plugin) openAdmin(ctx context.Context) error {
	listener, err := hardening.ListenPrivate(ctx, filepath.Join(p.o.stateDir, admin.SocketName))
	if err != nil {
		p.adminFailure.Store(&err)
		p.logger.Error("admin socket not served", slog.Any(keyError, err))
		return nil //nolint:nilerr // it is logged, and readiness shows it
	}
	config := admin.Config{Log: p.logForAdmin(), Inputs: p.inputsForAdmin(), Peer: ownUser, Logger: p.logger}
	// Not ended by the signal that stops the plugin, but when the log is about
	// to be closed: what is recorded until then can still be followed.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := admin.Serve(ctx, listener, config); err != nil {
			p.adminFailure.Store(&err)
			p.logger.Error("admin socket is no longer served", slog.Any(keyError, err))
		}
	}()
	p.closers = append(p.closers, func() error { cancel(); <-done; return nil })
	return nil
}

func ownUser(conn net.Conn) error { return hardening.CheckPeer(conn, []int{os.Geteuid()}) }

// adminServed is a condition of readiness.
func (p *plugin) adminServed() error {
	if err := p.adminFailure.Load(); err != nil {
		return *err
	}
	return nil
}

func (p *plugin) logForAdmin() admin.Log {
	if p.log == nil {
		return unreadLog{p.logFailure}
	}
	return p.log
}

func (p *plugin) inputsForAdmin() admin.Inputs {
	if p.log == nil {
		return admin.Kept{Leaves: func(func(auditlog.Position, []byte) error) error { return p.logFailure }, Store: p.inputs}
	}
	return admin.Kept{Leaves: p.log.Each, Store: p.inputs}
}

// unreadLog stands in for a log that could not be opened: whoever asks is told
// why.
type unreadLog struct{ err error }

func (u unreadLog) Epochs() ([]auditlog.Epoch, error)                 { return nil, u.err }
func (u unreadLog) Checkpoint() ([]byte, error)                       { return nil, u.err }
func (u unreadLog) RotateKey(context.Context) error                   { return u.err }
func (u unreadLog) VerifierKey() (string, error)                      { return "", u.err }
func (u unreadLog) Snapshot(io.Writer) (p auditlog.Position, _ error) { return p, u.err }
func (u unreadLog) Follow(context.Context, auditlog.Position, func(auditlog.Leaf) error) error {
	return u.err
}
