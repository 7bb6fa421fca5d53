package bundle_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/bundle/store"
)

// looks has some time pass, with a look each half minute, and returns the first failure
// and when it came.
func (r *rig) looks(d time.Duration) (after time.Duration, first error) {
	for passed := time.Duration(0); passed < d; passed += 30 * time.Second {
		r.pass(30 * time.Second)
		if err := r.reload(); err != nil && first == nil {
			first, after = err, passed
		}
	}
	return after, first
}

// TestP10FrozenSource: whoever holds the source gives the newest bundle to some and
// the one of before to this node. It is seen, with event and metric, and the old one
// decides on.
func TestP10FrozenSource(t *testing.T) {
	r := newRig(t)
	floor := &clusterFloor{mark: store.Mark{Serial: 5}}
	r.floor = floor
	r.registry.put(r.signed(5, true))
	r.must(r.start())
	if _, err := r.looks(time.Hour); err != nil {
		t.Errorf("Reload() with the cluster at the same serial = %v, want nil", err)
	}
	floor.mark.Serial = 6
	after, err := r.looks(time.Hour)
	if bundle.ReasonOf(err) != bundle.ReasonSerial || !strings.Contains(err.Error(), "serial 5, and the cluster's floor is 6; hint: ") {
		t.Errorf("Reload() behind the cluster = %v, want that it is behind", err)
	}
	if after < 10*time.Minute || after > 25*time.Minute {
		t.Errorf("it was told after %s, want some time for a rollout, and not long", after)
	}
	r.want(5, "behind the cluster")
	st := r.source.Status()
	if st.Failure == nil || st.Failures[bundle.ReasonSerial] == 0 || st.Ended {
		t.Errorf("Status() = %+v, want the failure", st)
	}
	if last := r.last(); last.Reason != bundle.ReasonSerial || last.Active != last.Digest || last.Bundle.Data != nil {
		t.Errorf("last report %+v, want one about the bundle in force", last)
	}
	r.registry.put(r.signed(6, true))
	r.must(r.reload())
	if _, err := r.looks(time.Hour); err != nil || r.source.Status().Failure != nil {
		t.Errorf("Reload() with what the cluster has = %v, want nil", err)
	}
	r.want(6, "with what the cluster has")
}

// TestP10TwoBundlesOfOneSerial: somebody signed both, and the source gives each to
// others.
func TestP10TwoBundlesOfOneSerial(t *testing.T) {
	r := newRig(t)
	floor := &clusterFloor{}
	r.floor = floor
	r.registry.put(r.signed(5, true))
	r.must(r.start())
	floor.mark = store.Mark{Serial: 5, Digest: r.source.Active().Digest()}
	if _, err := r.looks(time.Hour); err != nil {
		t.Errorf("Reload() with the cluster at the same bundle = %v, want nil", err)
	}
	floor.mark.Digest = "sha256:" + strings.Repeat("0", 64)
	if after, err := r.looks(time.Hour); bundle.ReasonOf(err) != bundle.ReasonEquivocation || after > 5*time.Minute {
		t.Errorf("Reload() = %v after %s, want that there are two of that serial", err, after)
	}
	r.want(5, "beside another of its serial")
}

// TestFloorIsAskedSparingly: a thousand nodes share an API server; and one that does
// not answer makes no source bad.
func TestFloorIsAskedSparingly(t *testing.T) {
	r := newRig(t)
	floor := &countedFloor{}
	r.floor = floor
	r.registry.put(r.signed(5, true))
	r.must(r.start())
	floor.reads, floor.err = 0, errDown
	if _, err := r.looks(time.Hour); err != nil {
		t.Errorf("Reload() without an API server = %v, want nil", err)
	}
	if floor.reads < 6 || floor.reads > 13 {
		t.Errorf("the floor was read %d times in an hour, want about each five minutes", floor.reads)
	}
	floor.err = nil
	floor.mark.Serial = 99
	r.registry.put(r.breakGlass(1, 3*time.Hour))
	r.must(r.reload())
	if _, err := r.looks(time.Hour); err != nil {
		t.Errorf("Reload() in an emergency = %v, want nil: its serials count by themselves", err)
	}
}

type countedFloor struct {
	clusterFloor

	reads int
}

func (f *countedFloor) Read(ctx context.Context) (store.Mark, error) {
	f.reads++
	return f.clusterFloor.Read(ctx)
}

// TestAFloorThatIsGoneIsRaisedAgain: new nodes wait for it, and the bundle in force may
// be the same for weeks.
func TestAFloorThatIsGoneIsRaisedAgain(t *testing.T) {
	r := newRig(t)
	var raised []int64
	r.raise = func(_ context.Context, m store.Mark) error { raised = append(raised, m.Serial); return nil }
	r.registry.put(r.signed(5, true))
	r.must(r.start())
	_, _ = r.looks(4 * time.Minute)
	if len(raised) != 1 {
		t.Errorf("raised %d times at first, want once", len(raised))
	}
	_, _ = r.looks(20 * time.Minute)
	if len(raised) < 4 || len(raised) > 6 || raised[len(raised)-1] != 5 {
		t.Errorf("raised to %v, want 5 about each five minutes", raised)
	}
}

// TestARefusedSerialSaysByWhom: the flag, this node, or the cluster.
func TestARefusedSerialSaysByWhom(t *testing.T) {
	for want, change := range map[string]func(*rig){
		"9 is the lowest that is accepted, by --policy-min-serial":       func(r *rig) { r.minSerial = 9 },
		"9 is the lowest that is accepted, by the cluster's floor":       func(r *rig) { r.floor = &clusterFloor{mark: store.Mark{Serial: 9}} },
		"5 is the lowest that is accepted, since that was in force here": func(*rig) {},
	} {
		r := newRig(t)
		r.registry.put(r.signed(5, true))
		r.must(r.start())
		change(r)
		serial := int64(7)
		if r.minSerial == 0 && r.floor == nil {
			serial = 4
		}
		r.registry.put(r.signed(serial, true))
		if err := r.start(); bundle.ReasonOf(err) != bundle.ReasonSerial || !strings.Contains(err.Error(), want+"; hint: ") {
			t.Errorf("Start() = %v, want %q", err, want)
		}
	}
}
