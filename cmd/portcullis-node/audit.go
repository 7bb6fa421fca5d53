package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/portcullis-csi/portcullis/audit"
	auditlog "github.com/portcullis-csi/portcullis/audit/log"
	"github.com/portcullis-csi/portcullis/policies/bundle"
)

// openAudit opens the log and the recorder over it. A log that is damaged or
// was tampered with does not keep the plugin from starting, since somebody has
// to unmount (promise P8): it keeps it from granting anything.
func (p *plugin) openAudit(context.Context) error {
	var events audit.Appender
	kept := p.openInputs()
	source := audit.Source{Component: "driver", Version: version(), Cluster: p.o.clusterName, Node: p.o.nodeID, Insecure: insecureBuild}
	log, err := auditlog.Open(auditlog.Config{
		Dir: filepath.Join(p.o.stateDir, "audit"), Origin: p.o.clusterName + "/nodes/" + p.o.nodeID,
		Boundary: audit.BoundaryLeaf(source, time.Now), Logger: p.logger,
		EpochBytes: p.o.auditEpoch, RetentionBytes: p.o.auditRetention,
	})
	switch {
	case err == nil:
		p.log, events = log, log
		p.closers = append(p.closers, log.Close)
	case errors.Is(err, auditlog.ErrLocked):
		return err
	default:
		p.logger.Error("audit log not opened, nothing will be granted", slog.Any(keyError, err))
		events, p.logFailure = closedLog{err}, err
	}
	p.recorder, err = audit.New(audit.Config{Log: events, Logger: p.logger, Source: source, Inputs: kept})
	if err != nil {
		return err
	}
	p.closers = append(p.closers, p.closeRecorder)
	return nil
}

// closedLog stands in for a log that could not be opened: it takes nothing.
type closedLog struct{ err error }

func (c closedLog) Append(context.Context, []byte) (int64, error)         { return 0, c.err }
func (c closedLog) AppendReserved(context.Context, []byte) (int64, error) { return 0, c.err }
func (c closedLog) Healthy() error                                        { return c.err }

// interruptedWithin is far longer than a delivery takes.
const interruptedWithin = time.Hour

// announce writes the first events of a process, and returns the deliveries
// that an earlier one did not end.
func (p *plugin) announce(ctx context.Context) ([]audit.Intent, error) {
	if p.log == nil {
		return nil, nil // readiness and the process's log say why
	}
	found, err := audit.Resume(p.log.Recent(interruptedWithin))
	if _, altered := errors.AsType[*auditlog.TamperedError](err); altered {
		p.recorder.Owe(audit.LogTampered()) // an epoch that has ended: the others go on
	}
	p.recorder.Resume(found)
	first := []audit.Event{audit.DriverStarted()}
	if was := p.log.Opening(); !was.Created { // else the log's first leaf says what was found
		epochs, e := p.log.Epochs()
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
		if err := p.recorder.Record(ctx, e); err != nil {
			p.logger.Error("start not recorded", slog.Any(keyError, err))
		}
	}
	return found.Intents, err
}

func (p *plugin) closeRecorder() error {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	p.recorder.Owe(audit.DriverStopped(p.stopReason))
	if err := p.recorder.Close(ctx); err != nil {
		return fmt.Errorf("write owed audit events: %w", err)
	}
	return nil
}

// reportPolicy records what became of a bundle.
func (p *plugin) reportPolicy(r bundle.Report) {
	b := audit.Bundle{Digest: r.Digest, Previous: p.activePolicy, Serial: r.Manifest.Serial, Signed: r.Signed}
	if r.Active != p.activePolicy && p.driver != nil { // which looks at its start by itself
		p.driver.PolicyChanged()
	}
	p.activePolicy = r.Active
	if r.Err == nil {
		p.logger.Info("policy active", slog.String(keyDigest, r.Digest), slog.Int64(keySerial, r.Manifest.Serial), slog.Bool(keySigned, r.Signed))
		p.keepBundle(r)
		p.recorder.Owe(audit.PolicyLoaded(b))
		return
	}
	b.Reason = bundleReason(r)
	p.logger.Error("policy not loaded, the active one stays", slog.String(keyActive, r.Active), slog.Any(keyError, r.Err))
	p.recorder.Owe(audit.PolicyLoadFailed(b))
}

func bundleReason(r bundle.Report) audit.Reason {
	switch {
	case errors.Is(r.Err, bundle.ErrUnsigned):
		return audit.ReasonBundleUnsigned
	case errors.Is(r.Err, bundle.ErrExpired):
		return audit.ReasonBundleExpired
	case r.Digest == "":
		return audit.ReasonBundleUnreadable
	default:
		return audit.ReasonBundleInvalid
	}
}
