package bundle_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/policies/bundle/store"
)

// TestP10KilledAnywhere: a process that dies between any two writes of a change of
// bundle leaves a node with a last good bundle, and a floor that is no lower.
func TestP10KilledAnywhere(t *testing.T) {
	killed := errors.New("killed")
	for die := 0; ; die++ {
		r := newRig(t)
		r.registry.put(r.signed(5, true))
		r.must(r.start())
		steps := 0
		r.step = func(string) error {
			if steps++; steps > die {
				return killed
			}
			return nil
		}
		r.must(r.start()) // with the same bundle: writes nothing
		steps = 0
		r.registry.put(r.signed(6, true))
		_ = r.reload()
		r.step = nil
		survived := steps <= die
		r.registry.down()
		_ = r.start()
		if got := r.serial(); got != 5 && got != 6 {
			t.Errorf("killed after %d steps: serial %d decides, want 5 or 6", die, got)
		}
		if floor := r.source.Status().Floor; floor.Serial < 5 || floor.Serial > r.serial() {
			t.Errorf("killed after %d steps: floor %d with serial %d in force", die, floor.Serial, r.serial())
		}
		r.registry.put(r.signed(4, false))
		if err := r.reload(); err == nil {
			t.Errorf("killed after %d steps: serial 4 is accepted", die)
		}
		if survived {
			if die < 8 {
				t.Errorf("only %d steps", die)
			}
			return
		}
	}
}

// TestFloorIsRaised: only to what is in force, and never by an emergency.
func TestFloorIsRaised(t *testing.T) {
	r := newRig(t)
	var raised []int64
	r.raise = func(_ context.Context, m store.Mark) error {
		raised = append(raised, m.Serial)
		if len(raised) == 1 {
			return errDown
		}
		return nil
	}
	r.registry.put(r.signed(5, true))
	r.must(r.start())
	if r.source.Status().Cluster == nil {
		t.Error("Status() does not say that the floor was not raised")
	}
	r.must(r.reload())
	r.registry.put(r.breakGlass(9, 3600e9))
	r.must(r.reload())
	r.registry.put(r.signed(7, true))
	r.must(r.reload())
	if len(raised) != 3 || raised[0] != 5 || raised[1] != 5 || raised[2] != 7 {
		t.Errorf("raised to %v, want 5, again 5, and 7", raised)
	}
	// Somebody may have removed what the cluster had.
	r.must(r.reload())
	r.pass(5 * time.Minute)
	r.must(r.reload())
	r.must(r.reload())
	if len(raised) != 4 || raised[3] != 7 {
		t.Errorf("raised to %v, want 7 once more after five minutes", raised)
	}
}
