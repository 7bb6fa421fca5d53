package bundle_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// shelf is a Verifier whose bundle tests exchange.
type shelf struct {
	mu     sync.Mutex
	files  fstest.MapFS
	signed bool
	loads  int
}

func (s *shelf) Load(context.Context) (policies.Bundle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loads++
	if s.files == nil {
		return policies.Bundle{}, errors.New("verify signature: no trusted key")
	}
	b, err := bundle.LoadFS(s.files)
	b.Signed = s.signed
	return b, err
}

func (s *shelf) put(files fstest.MapFS) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files = files
}

func source(t *testing.T, c bundle.Config) *bundle.Source {
	t.Helper()
	c.Compile.Clock = now
	s, err := bundle.NewSource(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestP10BadBundleChangesNothing: unsigned, unverified, expired, or not
// compiling, the engine in force stays, and says so.
func TestP10BadBundleChangesNothing(t *testing.T) {
	good := policiestest.Files(policiestest.Grants)
	manifest := func(metadata string) policiestest.Option {
		return policiestest.WithFile(".manifest", `{"metadata":{"contract":"portcullis/v1",`+metadata+`}}`)
	}
	tests := []struct {
		name  string
		files fstest.MapFS
		want  error
	}{
		{"unverified", nil, nil},
		{"expired", policiestest.Files("", manifest(`"not_after":"2026-01-15T12:00:00Z"`)), bundle.ErrExpired},
		{"too long", policiestest.Files("", manifest(`"not_after":"2026-12-15T12:00:00Z"`)), nil},
		{"other contract", policiestest.Files("", policiestest.WithFile(".manifest", `{}`)), nil},
		{"no manifest", fstest.MapFS{}, nil},
		{"unreadable", policiestest.Files("- {id: x}"), nil},
		{"not compiling", policiestest.Files("", policiestest.WithCheck("odd", "package portcullis.checks.odd")), nil},
		{"weaker", policiestest.Files("", policiestest.WithCheck("odd", strings.ReplaceAll(check, "input.pod.hostPID", `input.phase == "mount"`))), nil},
		{"required check removed", policiestest.Files("", policiestest.WithConfig("required_checks: [odd]")), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			shelf := &shelf{files: good}
			var reports []bundle.Report
			s := source(t, bundle.Config{Verifier: shelf, AllowUnsigned: true, Report: func(r bundle.Report) { reports = append(reports, r) }})
			if err := s.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
			before := s.Active()
			shelf.put(tt.files)
			err := s.Reload(t.Context())
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("Reload(%s) = %v, want an error (%v)", tt.name, err, tt.want)
			}
			if s.Active() != before {
				t.Errorf("Reload(%s) changed the engine in force", tt.name)
			}
			if !errors.Is(s.Failure(), err) {
				t.Errorf("Failure() after Reload(%s) = %v, want %v", tt.name, s.Failure(), err)
			}
			if d := s.Active().Decide(t.Context(), policiestest.Input()); d.Verdict() != policies.VerdictAllow {
				t.Errorf("Decide() after Reload(%s) = %v, want allow", tt.name, d.Verdict())
			}
			last := reports[len(reports)-1]
			if len(reports) != 2 || last.Err == nil || last.Active != before.Digest() || !last.Time.Equal(now()) {
				t.Errorf("Report after Reload(%s) = %+v, want the failure and the digest in force", tt.name, last)
			}
			shelf.put(good)
			if err := s.Reload(t.Context()); err != nil || s.Failure() != nil {
				t.Errorf("Reload(the good bundle again) = %v, Failure() = %v, want nil", err, s.Failure())
			}
		})
	}
}

// TestP10UnsignedIsRefused: no flag of a release build accepts a directory.
func TestP10UnsignedIsRefused(t *testing.T) {
	dir := write(t, policiestest.Files(policiestest.Grants))
	s := source(t, bundle.Config{Verifier: bundle.Path(dir)})
	if err := s.Reload(t.Context()); !errors.Is(err, bundle.ErrUnsigned) || !strings.Contains(err.Error(), "hint:") {
		t.Errorf("Reload() = %v, want ErrUnsigned with a hint", err)
	}
	if d := s.Active().Decide(t.Context(), policiestest.Input()); d.Undecided != policies.UndecidedNoBundle {
		t.Errorf("Decide() = %v %v, want error NoBundle", d.Verdict(), d.Undecided)
	}
	s = source(t, bundle.Config{Verifier: bundle.Path(dir), AllowUnsigned: true})
	if err := s.Reload(t.Context()); err != nil {
		t.Fatalf("Reload() = %v, want nil where unsigned policy is allowed", err)
	}
	if d := s.Active().Decide(t.Context(), policiestest.Input()); d.Verdict() != policies.VerdictAllow || d.BundleSigned {
		t.Errorf("Decide() = %v, signed %v, want allow, unsigned", d.Verdict(), d.BundleSigned)
	}
}

func TestReloadPutsABetterBundleInForce(t *testing.T) {
	end := policiestest.WithFile(".manifest", `{"metadata":{"contract":"portcullis/v1","serial":2,"not_after":"2026-02-01T00:00:00Z"}}`)
	shelf := &shelf{files: policiestest.Files("", end), signed: true}
	var reports []bundle.Report
	s := source(t, bundle.Config{Verifier: shelf, Report: func(r bundle.Report) { reports = append(reports, r) }})
	if err := s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := s.Active().Decide(t.Context(), policiestest.Input()); d.Verdict() != policies.VerdictDeny || !d.BundleSigned || d.BundleSerial != 2 {
		t.Errorf("Decide() = %v, signed %v, serial %d, want deny, signed, 2", d.Verdict(), d.BundleSigned, d.BundleSerial)
	}
	shelf.put(policiestest.Files(policiestest.Grants, end))
	if err := s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	active := s.Active()
	if d := active.Decide(t.Context(), policiestest.Input()); d.Verdict() != policies.VerdictAllow {
		t.Errorf("Decide() = %v, want allow", d.Verdict())
	}
	if err := s.Reload(t.Context()); err != nil || s.Active() != active || len(reports) != 2 {
		t.Errorf("Reload() of the same bundle = %v, with %d reports, want nothing to happen", err, len(reports))
	}
	if r := reports[1]; r.Err != nil || r.Active != r.Digest || !r.Signed || r.Manifest.Serial != 2 {
		t.Errorf("Report = %+v, want success", r)
	}
}

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shelf := &shelf{files: policiestest.Files(policiestest.Grants)}
		s := source(t, bundle.Config{Verifier: shelf, AllowUnsigned: true})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx, time.Minute) }()
		synctest.Wait()
		if s.Active() != nil {
			t.Error("Run() reloaded before its interval")
		}
		time.Sleep(72 * time.Second) // a minute and a fifth
		synctest.Wait()
		if s.Active() == nil {
			t.Error("Run() did not reload after its interval")
		}
		shelf.put(nil)
		s.Trigger()
		s.Trigger()
		synctest.Wait()
		if shelf.loads < 2 || s.Active() == nil {
			t.Errorf("Run() loaded %d times after Trigger(), engine %v, want 2 or more and the old engine", shelf.loads, s.Active())
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v, want nil when its context ends", err)
		}
	})
}

func TestSourceRefusesNonsense(t *testing.T) {
	if _, err := bundle.NewSource(bundle.Config{}); err == nil {
		t.Error("NewSource() without a Verifier = nil error, want one")
	}
	s := source(t, bundle.Config{Verifier: &shelf{}})
	if err := s.Run(t.Context(), 0); err == nil {
		t.Error("Run() without an interval = nil error, want one")
	}
	var none *bundle.Source
	if none.Active() != nil {
		t.Error("Active() of no Source = an engine, want none")
	}
}

// TestReloadUnderLoad: readers always see one whole engine.
func TestReloadUnderLoad(t *testing.T) {
	files := []fstest.MapFS{policiestest.Files(policiestest.Grants), policiestest.Files("")}
	shelf := &shelf{files: files[0]}
	s := source(t, bundle.Config{Verifier: shelf, AllowUnsigned: true, Compile: policies.Options{Budget: time.Minute}})
	if err := s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := map[string]policies.Verdict{s.Active().Digest(): policies.VerdictAllow}
	shelf.put(files[1])
	if err := s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	want[s.Active().Digest()] = policies.VerdictDeny
	var readers sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if d := s.Active().Decide(t.Context(), policiestest.Input()); d.Verdict() != want[d.BundleDigest] {
					t.Errorf("Decide() by %s = %v, want %v", d.BundleDigest, d.Verdict(), want[d.BundleDigest])
				}
			}
		})
	}
	for i := range 20 {
		shelf.put(files[i%2])
		if err := s.Reload(t.Context()); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	readers.Wait()
}
