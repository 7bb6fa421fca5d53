package sample

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/inputs"
	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

const (
	cluster = "sample"
	node    = "node-1"
	origin  = cluster + "/nodes/" + node

	inputsBytes = 1 << 20
	// decideWithin is for a machine that does other work meanwhile.
	decideWithin = 10 * time.Second
)

// Paths are what Write made, below its directory.
type Paths struct {
	Log         string // as a node has it in --state-dir/audit
	Inputs      string // and in --state-dir/audit-inputs
	Earlier     string // a copy of the log, taken before it went on
	Key         string // public key that was kept before it was replaced
	Checkpoints string // checkpoints that were kept
}

// NotEmptyError is a directory in which something is.
type NotEmptyError struct{ Dir string }

// Error names the directory and the remedy.
func (e *NotEmptyError) Error() string {
	return fmt.Sprintf("%q is not empty; hint: name a directory that does not exist yet, or an empty one", e.Dir)
}

// Write writes the sample below an empty directory, which it makes if it is
// missing.
func Write(ctx context.Context, dir string) (p Paths, err error) {
	there, err := os.ReadDir(dir)
	switch {
	case err == nil && len(there) > 0:
		return p, &NotEmptyError{dir}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return p, fmt.Errorf("look at the directory: %w", err)
	}
	state, kept, earlier := filepath.Join(dir, "node"), filepath.Join(dir, "kept"), filepath.Join(dir, "earlier")
	p = Paths{
		Log: filepath.Join(state, "audit"), Inputs: filepath.Join(state, "audit-inputs"), Earlier: filepath.Join(earlier, "audit"),
		Key: filepath.Join(kept, auditlog.VKeyFileName), Checkpoints: filepath.Join(kept, "checkpoints"),
	}
	for _, d := range []string{state, kept, earlier} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return p, fmt.Errorf("make directory: %w", err)
		}
	}
	return p, p.tell(ctx)
}

// process opens the log as a process of the node does, and closes it after what
// it tells.
func (p Paths) process(ctx context.Context, policy policy, tell func(*world, context.Context) error) error {
	w, err := open(p, policy)
	if err != nil {
		return err
	}
	return errors.Join(tell(w, ctx), w.close(ctx))
}

// world is the node's part that records.
type world struct {
	paths    Paths
	policy   policy
	log      *auditlog.Log
	store    *inputs.Store
	recorder *audit.Recorder
}

func open(p Paths, policy policy) (w *world, err error) {
	w = &world{paths: p, policy: policy}
	logger := slog.New(slog.DiscardHandler)
	source := audit.Source{Component: "driver", Version: "sample", Cluster: cluster, Node: node, Insecure: true}
	w.log, err = auditlog.Open(auditlog.Config{Dir: p.Log, Origin: origin, Boundary: audit.BoundaryLeaf(source, time.Now), Logger: logger})
	if err != nil {
		return nil, err
	}
	if w.store, err = inputs.Open(inputs.Config{Dir: p.Inputs, MaxBytes: inputsBytes, Logger: logger}); err != nil {
		return nil, errors.Join(err, w.log.Close())
	}
	w.recorder, err = audit.New(audit.Config{Log: w.log, Inputs: w.store, Logger: logger, Source: source})
	if err != nil {
		return nil, errors.Join(err, w.store.Close(), w.log.Close())
	}
	w.store.KeepBundle(w.policy.engine.Digest(), w.policy.archive)
	return w, nil
}

func (w *world) close(ctx context.Context) error {
	return errors.Join(w.recorder.Close(ctx), w.store.Close(), w.log.Close())
}

// keep writes what somebody keeps where the node cannot write: the public key
// and a checkpoint, as they are now.
func (w *world) keep() error {
	key, err := w.log.VerifierKey()
	if err != nil {
		return err
	}
	checkpoint, err := w.log.Checkpoint()
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(w.paths.Key, []byte(key+"\n"), 0o600),
		os.WriteFile(w.paths.Checkpoints, checkpoint, 0o600),
	)
}
