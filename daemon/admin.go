package daemon

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/portcullis-csi/portcullis/audit/admin"
	auditlog "github.com/portcullis-csi/portcullis/audit/log"
	"github.com/portcullis-csi/portcullis/hardening"
)

// adminSocket is where a running log is looked at.
type adminSocket struct {
	failure atomic.Pointer[error] // why it is not served
	end     func()                // nil where it never was
	shadow  atomic.Pointer[func() ([]byte, error)]
}

// ServeShadow has the admin socket, which is there before policy is, hand out what
// a candidate would have decided.
func (a *Audit) ServeShadow(report func() ([]byte, error)) { a.admin.shadow.Store(&report) }

func (a *Audit) shadowForAdmin() ([]byte, error) {
	if report := a.admin.shadow.Load(); report != nil {
		return (*report)()
	}
	return nil, admin.ErrNoCandidate
}

// ServeAdmin serves the admin socket from now until Close. Without it nobody can
// look at the log of a running process; that is no reason not to grant, mount and
// unmount, so readiness only warns.
func (a *Audit) ServeAdmin(ctx context.Context) {
	listener, err := hardening.ListenPrivate(ctx, filepath.Join(a.c.StateDir, admin.SocketName))
	if err != nil {
		a.admin.failure.Store(&err)
		a.c.Logger.Error("admin socket not served", slog.Any(keyError, err))
		return
	}
	config := admin.Config{Log: a.logForAdmin(), Inputs: a.inputsForAdmin(), Shadow: a.shadowForAdmin, Peer: ownUser, Logger: a.c.Logger}
	// Not ended by the signal that stops the process, but when the log is about
	// to be closed: what is recorded until then can still be followed.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := admin.Serve(ctx, listener, config); err != nil {
			a.admin.failure.Store(&err)
			a.c.Logger.Error("admin socket is no longer served", slog.Any(keyError, err))
		}
	}()
	a.admin.end = func() { cancel(); <-done }
}

func (s *adminSocket) close() {
	if s.end != nil {
		s.end()
	}
}

// AdminServed is a condition of readiness.
func (a *Audit) AdminServed() error {
	if err := a.admin.failure.Load(); err != nil {
		return *err
	}
	return nil
}

func ownUser(conn net.Conn) error { return hardening.CheckPeer(conn, []int{os.Geteuid()}) }

func (a *Audit) logForAdmin() admin.Log {
	if a.log == nil {
		return unreadLog{a.failure}
	}
	return a.log
}

func (a *Audit) inputsForAdmin() admin.Inputs {
	if a.log == nil {
		return admin.Kept{Leaves: func(func(auditlog.Position, []byte) error) error { return a.failure }, Store: a.inputs}
	}
	return admin.Kept{Leaves: a.log.Each, Store: a.inputs}
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
