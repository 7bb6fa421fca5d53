package bundle_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/bundle/store"
)

// killed is the process after it was killed: it finds on the disk what is there now.
func (r *rig) killed() {
	r.t.Helper()
	left := filepath.Join(r.t.TempDir(), "left")
	r.must(os.CopyFS(left, os.DirFS(r.dir)))
	r.dir = left
	r.must(r.start())
}

// TestP8ACandidateThatKillsTheProcess: what is only compared keeps nobody from
// unmounting for long, and the bundle in force decides, also where it is the same.
func TestP8ACandidateThatKillsTheProcess(t *testing.T) {
	r := newRig(t)
	r.registry.put(r.signed(5, true))
	r.must(r.start())
	digest := r.source.Active().Digest()
	for range 3 {
		if _, err := r.source.Trial(digest); err != nil {
			t.Fatalf("Trial() = %v, want nil", err)
		}
		r.killed()
		r.want(5, "after a death")
	}
	_, err := r.source.Trial(digest)
	if bundle.ReasonOf(err) != bundle.ReasonInvalid || !strings.Contains(err.Error(), "has ended 3 times in a row") || strings.Count(err.Error(), "hint: ") != 1 {
		t.Errorf("Trial() after three deaths = %v, want it refused for what it did", err)
	}
	r.must(r.reload())
	r.want(5, "beside a candidate that is refused")
	end, err := r.source.Trial("sha256:other")
	if err != nil {
		t.Errorf("Trial() of another = %v, want nil", err)
	} else {
		end()
	}
	r.pass(16 * time.Minute)
	if end, err = r.source.Trial(digest); err != nil {
		t.Fatalf("Trial() after a quarter of an hour = %v, want nil: the container may have more memory", err)
	}
	end()
	if _, err := r.store.Trials(); !store.Absent(err) {
		t.Errorf("Trials() = %v, want none left", err)
	}
}

// TestACandidateOutlivesItsSource: the end of the process is not the candidate's doing.
func TestACandidateOutlivesItsSource(t *testing.T) {
	r := newRig(t)
	r.registry.put(r.signed(5, true))
	r.must(r.start())
	end, err := r.source.Trial("sha256:c")
	r.must(err)
	r.source.Close()
	if _, err := r.store.Trials(); !store.Absent(err) {
		t.Errorf("Trials() after Close = %v, want none left", err)
	}
	r.step = func(name string) error {
		t.Errorf("step %s after Close", name)
		return nil
	}
	end()
	if _, err := r.source.Trial("sha256:c"); err == nil {
		t.Error("Trial() after Close = nil, want an error")
	}
	for _, none := range []*bundle.Source{nil, mustSource(t, bundle.Config{Verifier: bundle.Path("none")})} {
		if end, err = none.Trial("sha256:c"); err != nil {
			t.Fatalf("Trial() without a store = %v, want nil", err)
		}
		end()
	}
}

func mustSource(t *testing.T, c bundle.Config) *bundle.Source {
	t.Helper()
	s, err := bundle.NewSource(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
