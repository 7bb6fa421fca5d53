package main

import (
	"bytes"
	"errors"
	"log/slog"
	"path/filepath"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/inputs"
	"github.com/portcullis-csi/portcullis/policies/bundle"
)

const (
	inputsDirectory = "audit-inputs"
	// inputsPart of --audit-retention-bytes is for them.
	inputsPart = 10
)

var errInputsDropped = errors.New("the disk does not keep up; hint: decisions of now cannot be replayed, see the plugin's log")

// openInputs opens what keeps the inputs of decisions. Without it decisions are
// made and recorded as well; only nobody can make them again.
func (p *plugin) openInputs() audit.Inputs {
	store, err := inputs.Open(inputs.Config{
		Dir: filepath.Join(p.o.stateDir, inputsDirectory), MaxBytes: p.o.auditRetention / inputsPart, Logger: p.logger,
	})
	if err != nil {
		p.logger.Warn("inputs of decisions are not kept", slog.Any(keyError, err))
		p.inputsErr = err
		return nil
	}
	p.inputs = store
	p.closers = append(p.closers, store.Close)
	return store
}

// keepBundle keeps the bundle that is in force now.
func (p *plugin) keepBundle(r bundle.Report) {
	if p.inputs == nil {
		return
	}
	var tarball bytes.Buffer
	if err := bundle.WriteTarball(&tarball, r.Bundle); err != nil {
		p.logger.Warn("policy bundle not kept, its decisions cannot be replayed", slog.String(keyDigest, r.Digest), slog.Any(keyError, err))
		return
	}
	p.inputs.KeepBundle(r.Digest, tarball.Bytes())
}

// inputsReady says what a warning of readiness is about.
func (p *plugin) inputsReady() error {
	switch {
	case p.inputs == nil:
		return p.inputsErr
	case p.inputs.Failure() != nil:
		return p.inputs.Failure()
	case p.inputs.Overloaded():
		return errInputsDropped
	}
	return nil
}
