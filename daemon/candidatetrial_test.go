package daemon_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/daemon"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
	"github.com/portcullis-csi/portcullis/policies/shadow"
)

// A candidate that has ended the process too often is not compiled, and says so; one
// that is compiled is struck out again, once.
func TestACandidateThatKilledIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "candidate.tar.gz")
	var refuses atomic.Bool
	var begun, ended atomic.Int64
	refuses.Store(true)
	active := policiestest.Engine(t, policiestest.Grants)
	c, err := daemon.NewCandidate(daemon.CandidateConfig{
		Source: bundle.Config{Verifier: bundle.Path(path), AllowUnsigned: true},
		Active: func() *policies.Engine { return active }, Logger: slog.New(slog.DiscardHandler),
		Trial: func(digest string) (func(), error) {
			if !strings.HasPrefix(digest, "sha256:") {
				t.Errorf("Trial() of %q, want a digest", digest)
			}
			if refuses.Load() {
				return nil, errors.New("it has ended the process; hint: publish a smaller one")
			}
			begun.Add(1)
			return func() { ended.Add(1) }, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	publishCandidate(t, path, "2", policiestest.Grants)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { c.Run(ctx, 5*time.Millisecond) })
	r := report(t, c, func(r shadow.Report) bool { return strings.Contains(r.Problem, "it has ended the process") })
	if r.Candidate.Serial != 0 || begun.Load() != 0 {
		t.Errorf("the candidate is %+v, compiled %d times, want none", r.Candidate, begun.Load())
	}
	refuses.Store(false)
	report(t, c, func(r shadow.Report) bool { return r.Candidate.Serial == 2 && r.Problem == "" })
	cancel()
	running.Wait()
	if begun.Load() != 1 || ended.Load() != 1 {
		t.Errorf("%d trials begun, %d ended, want one", begun.Load(), ended.Load())
	}
	var none *daemon.Policy
	if end, err := none.Trial("sha256:c"); err != nil {
		t.Errorf("Trial() without policy = %v, want nil", err)
	} else {
		end()
	}
}
