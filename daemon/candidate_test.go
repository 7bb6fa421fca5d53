package daemon_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/admin"
	"github.com/portcullis-csi/portcullis/daemon"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
	"github.com/portcullis-csi/portcullis/policies/shadow"
)

// words are what a process logs.
type words struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

func (w *words) count(what string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Count(w.text.String(), what)
}

// publish puts a bundle where a source looks, as one step.
func publishCandidate(t *testing.T, path, serial, grants string) {
	t.Helper()
	manifest := strings.Replace(policiestest.Manifest, `"serial":1`, `"serial":`+serial, 1)
	b, err := bundle.LoadFS(policiestest.Files(grants, policiestest.WithFile(".manifest", manifest)))
	if err == nil {
		err = bundle.WriteFile(path, b, true)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// report asks until the report is as f wants it.
func report(t *testing.T, c *daemon.Candidate, f func(shadow.Report) bool) shadow.Report {
	t.Helper()
	var last []byte
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		text, err := c.Report()
		var r shadow.Report
		if err != nil || json.Unmarshal(text, &r) != nil {
			t.Fatalf("Report() = %q, %v, want JSON", text, err)
		}
		last = text
		if f(r) {
			return r
		}
	}
	t.Fatalf("the report stays %s", last)
	return shadow.Report{}
}

// A candidate is refused, mended, compared, and overtaken by the bundle in force;
// the process goes on all the while.
func TestACandidateComesAndGoes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "candidate.tar.gz")
	active := policiestest.Engine(t, policiestest.Grants)
	said := &words{}
	c, err := daemon.NewCandidate(daemon.CandidateConfig{
		Source: bundle.Config{Verifier: bundle.Path(path), AllowUnsigned: true},
		Active: func() *policies.Engine { return active }, Logger: slog.New(slog.NewTextHandler(said, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { c.Run(ctx, 5*time.Millisecond) })
	report(t, c, func(r shadow.Report) bool {
		return strings.Contains(r.Problem, "no candidate bundle is loaded: load policy bundle: ")
	})
	if err := c.Ready(); err == nil {
		t.Error("Ready() = nil without a candidate, want a warning")
	}
	publishCandidate(t, path, "2", "")
	c.Trigger()
	report(t, c, func(r shadow.Report) bool { return r.Candidate.Serial == 2 && r.Problem == "" })
	if err := c.Ready(); err != nil {
		t.Errorf("Ready() = %v with a candidate, want nil", err)
	}
	c.Observe(active.Decide(ctx, policiestest.Input()))
	r := report(t, c, func(r shadow.Report) bool { return r.Compared == 1 })
	if r.Flips[shadow.Breaks] != 1 || r.Live != nil {
		t.Errorf("the report is %+v, want one flip and no live volumes: nobody knows them", r)
	}
	publishCandidate(t, path, "1", "") // as if the active one had been published meanwhile
	report(t, c, func(r shadow.Report) bool { return strings.Contains(r.Problem, "serial 1 is not above") })
	cancel()
	running.Wait()
	for what, want := range map[string]int{"candidate policy not loaded": 1, "candidate policy loaded: it is compared, and not in force": 2, "could not take its place": 1} {
		if got := said.count(what); got != want {
			t.Errorf("the log says %q %d times, want %d: %s", what, got, want, said.text.String())
		}
	}
}

// A release build takes no candidate that nobody signed, as it takes no policy.
func TestAnUnsignedCandidateIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "candidate.tar.gz")
	publishCandidate(t, path, "2", policiestest.Grants)
	c, err := daemon.NewCandidate(daemon.CandidateConfig{
		Source: bundle.Config{Verifier: bundle.Path(path)}, Active: func() *policies.Engine { return nil }, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { c.Run(ctx, time.Hour) })
	report(t, c, func(r shadow.Report) bool { return strings.Contains(r.Problem, "is not signed") })
	cancel()
	running.Wait()
	if err := c.Ready(); !errors.Is(err, bundle.ErrUnsigned) {
		t.Errorf("Ready() = %v, want ErrUnsigned", err)
	}
}

func TestAProcessWithoutACandidate(t *testing.T) {
	var c *daemon.Candidate
	c.Observe(policiestest.Allow(t))
	c.Loaded(policies.Bundle{})
	c.Trigger()
	c.Run(t.Context(), time.Second) // returns
	if err := errors.Join(c.Ready(), c.Register(nil), c.Close()); err != nil {
		t.Errorf("a process without a candidate returns %v, want no error", err)
	}
	dir := state(t)
	a, err := daemon.OpenAudit(config(dir))
	if err != nil {
		t.Fatal(err)
	}
	a.ServeAdmin(t.Context())
	client := admin.Dial(filepath.Join(dir, admin.SocketName), nil)
	if _, err := client.Shadow(t.Context()); !errors.Is(err, admin.ErrNoCandidate) {
		t.Errorf("Shadow() before the process has said so = %v, want ErrNoCandidate", err)
	}
	a.ServeShadow(c.Report)
	if _, err := client.Shadow(t.Context()); !errors.Is(err, admin.ErrNoCandidate) {
		t.Errorf("Shadow() = %v, want ErrNoCandidate", err)
	}
	a.ServeShadow(func() ([]byte, error) { return []byte(`{"compared":3}`), nil })
	if text, err := client.Shadow(t.Context()); err != nil || string(text) != `{"compared":3}` {
		t.Errorf("Shadow() = %q, %v, want the report", text, err)
	}
	if err := a.Close(audit.ReasonSignal); err != nil {
		t.Fatal(err)
	}
}
