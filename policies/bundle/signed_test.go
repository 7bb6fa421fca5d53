package bundle_test

import (
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature/signaturetest"
	"github.com/portcullis-csi/portcullis/policies/bundle/store"
)

// TestP10Refusals: well signed, and yet not in force.
func TestP10Refusals(t *testing.T) {
	tests := map[string]struct {
		change func(r *rig)
		want   bundle.Reason
	}{
		"unsigned":     {func(r *rig) { r.registry.put(signature.Artifact{Tarball: r.tarball(6, day, true)}) }, bundle.ReasonUnsigned},
		"other key":    {func(r *rig) { r.signer = signaturetest.NewSigner(r.t); r.registry.put(r.signed(6, true)) }, bundle.ReasonUntrusted},
		"older":        {func(r *rig) { r.registry.put(r.signed(4, true)) }, bundle.ReasonSerial},
		"equivocation": {func(r *rig) { r.registry.put(r.signed(5, false)) }, bundle.ReasonEquivocation},
		"no serial":    {func(r *rig) { r.registry.put(r.signed(0, true)) }, bundle.ReasonInvalid},
		"expired": {func(r *rig) {
			r.registry.put(signaturetest.Forms()[0].Signed(r.t, r.tarball(6, -time.Second, true), r.signer))
		}, bundle.ReasonExpired},
		"too long": {func(r *rig) {
			r.registry.put(signaturetest.Forms()[0].Signed(r.t, r.tarball(6, 91*day, true), r.signer))
		}, bundle.ReasonInvalid},
		"no archive":           {func(r *rig) { r.registry.put(signaturetest.Forms()[0].Signed(r.t, []byte("x"), r.signer)) }, bundle.ReasonInvalid},
		"unreachable":          {func(r *rig) { r.registry.down() }, bundle.ReasonUnreadable},
		"break-glass for long": {func(r *rig) { r.registry.put(r.breakGlass(9, 5*time.Hour)) }, bundle.ReasonBreakGlass},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.registry.put(r.signed(5, true))
			r.must(r.start())
			tt.change(r)
			for range 3 {
				if err := r.reload(); bundle.ReasonOf(err) != tt.want {
					t.Errorf("Reload() = %v (%s), want %s", err, bundle.ReasonOf(err), tt.want)
				}
			}
			r.want(5, "after a refusal")
			if len(r.reports) != 2 || r.last().Reason != tt.want || r.source.Status().Failures[tt.want] != 3 {
				t.Errorf("%d reports, the last %s, and %v, want one of three failures", len(r.reports), r.last().Reason, r.source.Status().Failures)
			}
			r.pass(time.Hour)
			if _ = r.reload(); len(r.reports) != 3 {
				t.Errorf("%d reports an hour later, want the failure again", len(r.reports))
			}
		})
	}
}

// TestP10FloorOutlivesRestarts: with the registry down the store decides, and what
// is older is refused.
func TestP10FloorOutlivesRestarts(t *testing.T) {
	r := newRig(t)
	r.registry.put(r.signed(5, true))
	r.must(r.start())
	r.registry.put(r.signed(6, false))
	r.must(r.reload())
	r.registry.down()
	if err := r.start(); bundle.ReasonOf(err) != bundle.ReasonUnreadable {
		t.Errorf("Start() without a registry = %v, want unreadable", err)
	}
	r.want(6, "with the registry down")
	if st := r.source.Status(); st.Origin != bundle.OriginStore || st.Floor.Serial != 6 || len(st.Signers) != 1 {
		t.Errorf("Status() = %+v, want the store's with floor 6 and its signer", st)
	}
	r.registry.put(r.signed(5, true))
	if err := r.start(); bundle.ReasonOf(err) != bundle.ReasonSerial {
		t.Errorf("Start() with an old bundle = %v, want serial", err)
	}
	r.want(6, "with an old bundle")
}

// TestP10ClusterFloor: a node that remembers nothing believes the cluster or nobody.
func TestP10ClusterFloor(t *testing.T) {
	floor := &clusterFloor{err: errDown}
	r := newRig(t)
	r.floor = floor
	r.registry.put(r.signed(5, true))
	if err := r.start(); bundle.ReasonOf(err) != bundle.ReasonFloor {
		t.Errorf("Start() = %v, want floor_unreadable", err)
	}
	r.want(0, "without a floor")
	*floor = clusterFloor{mark: store.Mark{Serial: 6}}
	if err := r.reload(); bundle.ReasonOf(err) != bundle.ReasonSerial {
		t.Errorf("Reload() = %v, want serial", err)
	}
	r.registry.put(r.signed(6, true))
	r.must(r.reload())
	*floor = clusterFloor{err: errDown}
	r.registry.down()
	_ = r.start()
	r.want(6, "with a floor of its own")
	r.minSerial = 7
	_ = r.start()
	r.want(0, "below --policy-min-serial")
}

// TestP10Fallback: it is used for want of better, and by the same rules.
func TestP10Fallback(t *testing.T) {
	fallback := &registry{}
	r := newRig(t)
	r.fallback = fallback
	fallback.put(r.signed(3, true))
	_ = r.start()
	r.want(3, "from the fallback")
	if r.last().Change != bundle.ChangeFallback || r.source.Status().Origin != bundle.OriginFallback {
		t.Errorf("report %+v, want a fallback", r.last())
	}
	r.registry.put(r.signed(4, true))
	r.must(r.reload())
	r.want(4, "from the source")
	r.must(r.store.KeepBundle(store.Kept{}))
	r.registry.down()
	_ = r.start()
	r.want(0, "with a fallback below the floor")
}

// TestP10BreakGlass: for hours, once, and what was before comes back by itself.
func TestP10BreakGlass(t *testing.T) {
	r := newRig(t)
	r.registry.put(r.signed(50, false))
	r.must(r.start())
	r.registry.put(r.breakGlass(1, 3*time.Hour))
	r.must(r.reload())
	r.want(1, "in an emergency")
	if st := r.source.Status(); !st.BreakGlass || st.Floor.Serial != 50 || r.last().Change != bundle.ChangeBreakGlass {
		t.Errorf("Status() = %+v, want an emergency that moves no floor", st)
	}
	_ = r.start()
	r.want(1, "after a restart")
	if st := r.source.Status(); st.Floor.Serial != 50 {
		t.Errorf("floor = %d, want 50", st.Floor.Serial)
	}
	r.pass(3 * time.Hour)
	if err := r.reload(); bundle.ReasonOf(err) != bundle.ReasonExpired {
		t.Errorf("Reload() after its end = %v, want expired", err)
	}
	r.want(50, "after the emergency")
	r.set(-3 * time.Hour)
	_ = r.start()
	r.want(50, "after a restart with the clock set back")
	r.set(0)
	r.registry.put(r.breakGlass(1, 2*time.Hour))
	if err := r.reload(); bundle.ReasonOf(err) != bundle.ReasonBreakGlass {
		t.Errorf("Reload() of a used serial = %v, want break_glass", err)
	}
	r.registry.put(r.breakGlass(2, time.Hour))
	r.must(r.reload())
	r.registry.put(r.signed(51, true))
	r.must(r.reload())
	r.want(51, "after a new bundle")
	r.registry.put(r.breakGlass(2, time.Hour))
	if err := r.reload(); bundle.ReasonOf(err) != bundle.ReasonBreakGlass {
		t.Errorf("Reload() of an emergency that was ended = %v, want break_glass", err)
	}
}

// TestP10ClockSetBack: what has ended stays so, and a clock that was ahead once
// shuts nothing out.
func TestP10ClockSetBack(t *testing.T) {
	r := newRig(t)
	r.registry.put(r.signed(5, true))
	r.must(r.start())
	for range 31 {
		r.pass(day)
		_ = r.reload()
	}
	r.want(0, "after its end")
	r.set(-20 * day)
	_ = r.reload()
	r.want(0, "with the clock set back")
	_ = r.start()
	r.want(0, "after a restart with the clock set back")

	r.set(400 * day)
	_ = r.start()
	_ = r.reload()
	r.set(0)
	r.registry.put(r.signed(6, true))
	r.must(r.start())
	r.want(6, "after a clock that was ahead")
}
