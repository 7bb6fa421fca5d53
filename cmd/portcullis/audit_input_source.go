package main

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/portcullis-csi/portcullis/audit/admin"
	"github.com/portcullis-csi/portcullis/audit/inputs"
	auditlog "github.com/portcullis-csi/portcullis/audit/log"
	"github.com/portcullis-csi/portcullis/audit/tail"
	"github.com/portcullis-csi/portcullis/policies"
)

// inputsDirectory is beside that of the log in the plugin's --state-dir.
const inputsDirectory = "audit-inputs"

// recordedSource is where recorded decisions and their inputs are.
type recordedSource interface {
	Recorded(ctx context.Context, f func(policies.Recorded) error) error
	Input(ctx context.Context, sha256 string) ([]byte, error)
	Bundle(ctx context.Context, digest string) ([]byte, error)
	// lastOf shows the last event of a decision.
	lastOf(ctx context.Context, w tail.Want) error
}

// askedInputs asks a plugin that runs.
type askedInputs struct{ *admin.Client }

func (a askedInputs) lastOf(ctx context.Context, w tail.Want) error {
	_, err := tail.Last(ctx, a.Client, w)
	return err
}

// fileInputs reads files that nobody writes to. The log is verified on the way.
type fileInputs struct {
	file  string
	vkey  string
	store *inputs.Store // nil: the directory is not there
}

func openFileInputs(o logOptions) (fileInputs, error) {
	in, err := o.read()
	if err != nil {
		return fileInputs{}, err
	}
	store, err := inputs.Read(filepath.Join(filepath.Dir(filepath.Clean(besideLog(o.file))), inputsDirectory))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fileInputs{}, err
	}
	return fileInputs{o.file, in.vkey, store}, nil
}

func (i fileInputs) each(ctx context.Context) func(func(auditlog.Position, []byte) error) error {
	return func(f func(auditlog.Position, []byte) error) error {
		_, err := auditlog.Verify(ctx, auditlog.VerifyConfig{Path: i.file, VKey: i.vkey, Each: f})
		return err
	}
}

// Recorded gives f the decisions of the log.
func (i fileInputs) Recorded(ctx context.Context, f func(policies.Recorded) error) error {
	return admin.Kept{Leaves: i.each(ctx), Store: i.store}.Recorded(ctx, f)
}

// Input returns an input, or admin.ErrNotKept.
func (i fileInputs) Input(_ context.Context, sha256 string) ([]byte, error) {
	return admin.Kept{Store: i.store}.Input(sha256)
}

// Bundle returns a bundle, or admin.ErrNotKept.
func (i fileInputs) Bundle(_ context.Context, digest string) ([]byte, error) {
	return admin.Kept{Store: i.store}.Bundle(digest)
}

func (i fileInputs) lastOf(ctx context.Context, w tail.Want) error {
	ring := tail.NewRing(w)
	if err := i.each(ctx)(ring.Add); err != nil {
		return err
	}
	return ring.Show()
}
