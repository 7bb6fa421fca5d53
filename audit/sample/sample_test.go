package sample_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/inputs"
	auditlog "github.com/portcullis-csi/portcullis/audit/log"
	"github.com/portcullis-csi/portcullis/audit/sample"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
)

func write(t *testing.T) sample.Paths {
	t.Helper()
	p, err := sample.Write(t.Context(), filepath.Join(t.TempDir(), "practice"))
	if err != nil {
		t.Fatalf("Write() = %v, want no error", err)
	}
	return p
}

func content(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// verify verifies a log with what was kept, and returns its events.
func verify(t *testing.T, p sample.Paths, log string, known ...[]byte) (events []audit.Event, err error) {
	t.Helper()
	_, err = auditlog.Verify(t.Context(), auditlog.VerifyConfig{
		Path: log, VKey: string(content(t, p.Key)), Known: known,
		Each: func(at auditlog.Position, leaf []byte) error {
			e, err := audit.Parse(leaf)
			if err := errors.Join(err, e.Validate()); err != nil {
				t.Errorf("event %v = %s, %v, want a valid one", at, leaf, err)
			}
			events = append(events, e)
			return nil
		},
	})
	return events, err
}

func TestTheLogVerifiesAndProvesNothing(t *testing.T) {
	p := write(t)
	events, err := verify(t, p, p.Log, content(t, p.Checkpoints))
	if err != nil {
		t.Fatalf("Verify() = %v, want no error", err)
	}
	var types []audit.Type
	for _, e := range events {
		types = append(types, e.Type)
		if !e.Source.Insecure || e.Source.Cluster != "sample" {
			t.Errorf("event %s says %+v, want an insecure build in the cluster sample", e.ID, e.Source)
		}
	}
	want := []audit.Type{
		audit.TypeLogOpened, audit.TypePolicyChange, audit.TypeDriverStart, audit.TypeMount, audit.TypeMount, audit.TypeDriverStop,
		audit.TypeLogOpened, audit.TypeDriverStart, audit.TypeMount, audit.TypeMount, audit.TypeKeyRotated, audit.TypeLogClosed,
		audit.TypeLogOpened, audit.TypeRotate, audit.TypeRotate, audit.TypeUnmount, audit.TypeDriverStop, audit.TypeAuditRepeated,
	}
	if diff := cmp.Diff(want, types); diff != "" {
		t.Errorf("types of events differ (-want +got):\n%s", diff)
	}
}

// What is put back must be perfect but for the checkpoint: that is the lesson.
func TestTheEarlierLogNeedsACheckpoint(t *testing.T) {
	p := write(t)
	if events, err := verify(t, p, p.Earlier); err != nil || len(events) != 6 {
		t.Errorf("Verify(earlier) = %v over %d events, want no error and 6", err, len(events))
	}
	_, err := verify(t, p, p.Earlier, content(t, p.Checkpoints))
	if _, ok := errors.AsType[*auditlog.TamperedError](err); !ok {
		t.Errorf("Verify(earlier) against the checkpoint = %v, want a TamperedError", err)
	}
}

func TestEveryDecisionCanBeMadeAgain(t *testing.T) {
	p := write(t)
	store, err := inputs.Read(p.Inputs)
	if err != nil {
		t.Fatal(err)
	}
	events, err := verify(t, p, p.Log)
	if err != nil {
		t.Fatal(err)
	}
	verdicts := map[audit.Effect]int{}
	for _, e := range events {
		if e.Policy == nil || e.Policy.InputSHA256 == "" || len(e.Secrets) == 0 {
			continue
		}
		d := again(t, store, e)
		if d.ID != e.Policy.DecisionID || d.InputSHA256 != e.Policy.InputSHA256 {
			t.Errorf("made again, decision %s of input %s is %s of %s", e.Policy.DecisionID, e.Policy.InputSHA256, d.ID, d.InputSHA256)
		}
		verdicts[e.Policy.Effect]++
	}
	if diff := cmp.Diff(map[audit.Effect]int{audit.EffectAllow: 2, audit.EffectDeny: 1}, verdicts); diff != "" {
		t.Errorf("decisions differ (-want +got):\n%s", diff)
	}
}

// again decides by the bundle that was kept on the input that was kept.
func again(t *testing.T, store *inputs.Store, e audit.Event) policies.Decision {
	t.Helper()
	archive, err := store.Bundle(e.Policy.BundleDigest)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "bundle.tar.gz")
	if err := os.WriteFile(name, archive, 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := bundle.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := policies.Compile(t.Context(), b, policies.Options{Budget: 30 * time.Second, Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	text, err := store.Input(e.Policy.InputSHA256)
	if err != nil {
		t.Fatal(err)
	}
	in, err := policies.ReadInput(text, e.Policy.NowNS)
	if err != nil {
		t.Fatal(err)
	}
	return engine.Decide(t.Context(), in)
}

func TestWriteRefuses(t *testing.T) {
	p := write(t)
	before := content(t, p.Checkpoints)
	_, err := sample.Write(t.Context(), filepath.Dir(filepath.Dir(p.Checkpoints)))
	if _, ok := errors.AsType[*sample.NotEmptyError](err); !ok {
		t.Errorf("Write() over a sample = %v, want a NotEmptyError", err)
	}
	if !bytes.Equal(before, content(t, p.Checkpoints)) {
		t.Error("Write() over a sample changed it")
	}
	if _, err := sample.Write(t.Context(), p.Key); err == nil {
		t.Error("Write() to a file = nil, want an error")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sample.Write(ended, t.TempDir()); !errors.Is(err, context.Canceled) {
		t.Errorf("Write() after the end = %v, want %v", err, context.Canceled)
	}
}
