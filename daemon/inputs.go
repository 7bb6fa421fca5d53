package daemon

import (
	"bytes"
	"errors"
	"log/slog"
	"path/filepath"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/inputs"
	"github.com/portcullis-csi/portcullis/policies"
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
func (a *Audit) openInputs() audit.Inputs {
	store, err := inputs.Open(inputs.Config{
		Dir: filepath.Join(a.c.StateDir, inputsDirectory), MaxBytes: a.c.Flags.RetentionBytes / inputsPart, Logger: a.c.Logger,
	})
	if err != nil {
		a.c.Logger.Warn("inputs of decisions are not kept", slog.Any(keyError, err))
		a.unkept = err
		return nil
	}
	a.inputs = store
	return store
}

// KeepBundle keeps a bundle that is in force now, for whoever makes its decisions
// again.
func (a *Audit) KeepBundle(digest string, b policies.Bundle) {
	if a.inputs == nil {
		return
	}
	var tarball bytes.Buffer
	if err := bundle.WriteTarball(&tarball, b); err != nil {
		a.c.Logger.Warn("policy bundle not kept, its decisions cannot be replayed", slog.String(keyDigest, digest), slog.Any(keyError, err))
		return
	}
	a.inputs.KeepBundle(digest, tarball.Bytes())
}

// InputsReady says what a warning of readiness is about.
func (a *Audit) InputsReady() error {
	switch {
	case a.inputs == nil:
		return a.unkept
	case a.inputs.Failure() != nil:
		return a.inputs.Failure()
	case a.inputs.Overloaded():
		return errInputsDropped
	}
	return nil
}
