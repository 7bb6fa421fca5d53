package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/inputs"
	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

const (
	// interruptedWithin is far longer than a delivery takes.
	interruptedWithin = time.Hour
	// drainTimeout bounds how long a process that stops writes owed events.
	drainTimeout = 10 * time.Second
)

// AuditConfig says what OpenAudit opens. Every field is required.
type AuditConfig struct {
	StateDir string // of StateDirectory
	Flags    AuditFlags
	// Origin is of this log and no other, and the same at every start.
	Origin string
	Source audit.Source
	Logger *slog.Logger
}

// Audit is the log of a process, what is kept beside it, and the recorder over it.
type Audit struct {
	c        AuditConfig
	log      *auditlog.Log // nil where failure says why
	failure  error
	recorder *audit.Recorder
	inputs   *inputs.Store // nil where inputsErr says why
	unkept   error
	admin    adminSocket
}

// OpenAudit opens the log and the recorder over it. A log that is damaged or was
// tampered with does not keep a process from starting, since somebody has to
// unmount (promise P8): it keeps it from granting anything. One that another
// process has open is an error.
func OpenAudit(c AuditConfig) (*Audit, error) {
	a := &Audit{c: c}
	kept := a.openInputs()
	log, err := auditlog.Open(auditlog.Config{
		Dir: filepath.Join(c.StateDir, "audit"), Origin: c.Origin,
		Boundary: audit.BoundaryLeaf(c.Source, time.Now), Logger: c.Logger,
		EpochBytes: c.Flags.EpochBytes, RetentionBytes: c.Flags.RetentionBytes,
	})
	var events audit.Appender
	switch {
	case err == nil:
		a.log, events = log, log
	case errors.Is(err, auditlog.ErrLocked):
		return nil, errors.Join(err, a.closeFiles())
	default:
		c.Logger.Error("audit log not opened, nothing will be granted", slog.Any(keyError, err))
		events, a.failure = closedLog{err}, err
	}
	a.recorder, err = audit.New(audit.Config{Log: events, Logger: c.Logger, Source: c.Source, Inputs: kept})
	if err != nil {
		return nil, errors.Join(err, a.closeFiles())
	}
	return a, nil
}

// Recorder returns what records events.
func (a *Audit) Recorder() *audit.Recorder { return a.recorder }

// Healthy returns why an event could not be recorded now. It is a condition of
// readiness.
func (a *Audit) Healthy() error { return a.recorder.Healthy() }

// Announce writes the first events of a process, and returns the deliveries that
// an earlier one did not end.
func (a *Audit) Announce(ctx context.Context) ([]audit.Intent, error) {
	if a.log == nil {
		return nil, nil // readiness and the process's log say why
	}
	found, err := audit.Resume(a.log.Recent(interruptedWithin))
	if _, altered := errors.AsType[*auditlog.TamperedError](err); altered {
		a.recorder.Owe(audit.LogTampered()) // an epoch that has ended: the others go on
	}
	a.recorder.Resume(found)
	first := []audit.Event{audit.DriverStarted()}
	if was := a.log.Opening(); !was.Created { // else the log's first leaf says what was found
		epochs, e := a.log.Epochs()
		if e != nil {
			return found.Intents, errors.Join(err, e)
		}
		last := epochs[len(epochs)-1]
		first = append([]audit.Event{audit.LogFound(audit.Opening{
			Epoch: last.Number, Size: last.Size, Root: last.Root, Unsigned: was.Unsigned, Missing: int64(len(was.Missing)),
		})}, first...)
	}
	for _, e := range first {
		// Not being able to record the start is what readiness shows; it is
		// no reason not to unmount.
		if err := a.recorder.Record(ctx, e); err != nil {
			a.c.Logger.Error("start not recorded", slog.Any(keyError, err))
		}
	}
	return found.Intents, err
}

// Close records why the process stops, ends the admin socket, and closes recorder,
// log and kept inputs, in this order: what is recorded until then can be followed.
func (a *Audit) Close(why audit.Reason) error {
	a.admin.close()
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	a.recorder.Owe(audit.DriverStopped(why))
	err := a.recorder.Close(ctx)
	if err != nil {
		err = fmt.Errorf("write owed audit events: %w", err)
	}
	return errors.Join(err, a.closeFiles())
}

func (a *Audit) closeFiles() error {
	var errs []error
	if a.log != nil {
		errs = append(errs, a.log.Close())
	}
	if a.inputs != nil {
		errs = append(errs, a.inputs.Close())
	}
	return errors.Join(errs...)
}

// closedLog stands in for a log that could not be opened: it takes nothing.
type closedLog struct{ err error }

func (c closedLog) Append(context.Context, []byte) (int64, error)         { return 0, c.err }
func (c closedLog) AppendReserved(context.Context, []byte) (int64, error) { return 0, c.err }
func (c closedLog) Healthy() error                                        { return c.err }
