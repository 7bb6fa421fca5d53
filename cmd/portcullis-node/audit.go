package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/daemon"
	"github.com/portcullis-csi/portcullis/policies/bundle"
)

// openAudit opens the log and the recorder over it, and the admin socket.
func (p *plugin) openAudit(ctx context.Context) error {
	var err error
	p.audit, err = daemon.OpenAudit(daemon.AuditConfig{
		StateDir: p.o.stateDir, Flags: p.o.audit, Logger: p.logger, Origin: p.o.clusterName + "/nodes/" + p.o.nodeID,
		Source: audit.Source{Component: "driver", Version: version(), Cluster: p.o.clusterName, Node: p.o.nodeID, Insecure: daemon.Insecure},
	})
	if err != nil {
		return err
	}
	p.closers = append(p.closers, func() error { return p.audit.Close(p.stopReason) })
	p.recorder = p.audit.Recorder()
	p.audit.ServeAdmin(ctx)
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
		p.audit.KeepBundle(r.Digest, r.Bundle)
		p.candidate.Loaded(r.Bundle)
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
