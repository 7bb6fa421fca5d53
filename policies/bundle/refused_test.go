package bundle_test

import (
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature/signaturetest"
)

// TestRefusedVersionIsNotFetchedAgain: the source would send all of it each time.
// What signatures, time or a clock that is mended may change is looked at again.
func TestRefusedVersionIsNotFetchedAgain(t *testing.T) {
	tests := map[string]struct {
		bad    func(r *rig) signature.Artifact
		change func(r *rig)
		want   int // fetches of ten attempts
	}{
		"older":         {func(r *rig) signature.Artifact { return r.signed(4, true) }, nil, 1},
		"equivocation":  {func(r *rig) signature.Artifact { return r.signed(5, false) }, nil, 1},
		"too long":      {func(r *rig) signature.Artifact { return r.breakGlass(1, 5*time.Hour) }, nil, 1},
		"unsigned":      {func(r *rig) signature.Artifact { return signature.Artifact{Tarball: r.tarball(6, day, true)} }, nil, 10},
		"time passes":   {func(r *rig) signature.Artifact { return r.signed(4, true) }, func(r *rig) { r.pass(3 * time.Minute) }, 2},
		"clock is set":  {func(r *rig) signature.Artifact { return r.signed(4, true) }, func(r *rig) { r.set(r.offset + 2*time.Minute) }, 10},
		"clock drifted": {func(r *rig) signature.Artifact { return r.signed(4, true) }, func(r *rig) { r.set(r.offset + time.Second) }, 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.registry.put(r.signed(5, true))
			r.must(r.start())
			r.registry.put(tt.bad(r))
			before := r.registry.fetches
			first := r.reload()
			for range 9 {
				if tt.change != nil {
					tt.change(r)
				}
				if err := r.reload(); bundle.ReasonOf(err) != bundle.ReasonOf(first) || err == nil {
					t.Errorf("Reload() = %v, want %v again", err, first)
				}
			}
			if got := r.registry.fetches - before; got != tt.want {
				t.Errorf("%d fetches, want %d", got, tt.want)
			}
			r.want(5, "meanwhile")
			r.registry.put(r.signed(6, true))
			r.must(r.reload())
			r.want(6, "when the source has a good one")
		})
	}
}

// TestP10EmergencyWithoutAClock: four hours are four hours that pass, also where no
// regular bundle confirms the time, and the clock is set back.
func TestP10EmergencyWithoutAClock(t *testing.T) {
	r := newRig(t)
	r.registry.put(r.breakGlass(1, 3*time.Hour))
	r.must(r.start())
	r.want(1, "in an emergency")
	r.pass(2 * time.Hour)
	r.set(-2 * time.Hour)
	_ = r.reload()
	r.want(1, "after two hours")
	r.pass(time.Hour)
	r.set(-3 * time.Hour)
	if err := r.reload(); bundle.ReasonOf(err) != bundle.ReasonBreakGlass {
		t.Errorf("Reload() = %v, want break_glass", err)
	}
	r.want(0, "after three hours with the clock set back")
	_ = r.start()
	r.want(0, "after a restart")
}

// TestP10EmergencyEndsByTimer: no attempt is needed, and it stays ended when the
// process dies right then.
func TestP10EmergencyEndsByTimer(t *testing.T) {
	r := newRig(t)
	var timers []func()
	var last time.Duration
	r.after = func(d time.Duration, f func()) func() bool {
		timers, last = append(timers, f), d
		return func() bool { return true }
	}
	r.registry.put(r.signed(50, false))
	r.must(r.start())
	r.registry.put(r.breakGlass(1, 3*time.Hour))
	r.must(r.reload())
	if last != time.Minute {
		t.Errorf("timer of %s, want one that writes down what is left", last)
	}
	r.pass(3 * time.Hour)
	timers[len(timers)-1]()
	r.want(50, "after the timer")
	st := r.source.Status()
	if st.BreakGlass || st.Ended || st.Digest != r.source.Active().Digest() || st.Manifest.Serial != 50 {
		t.Errorf("Status() = %+v, want the regular bundle", st)
	}
	if p := r.last(); p.Change != bundle.ChangeBreakGlassEnded || p.Digest != st.Digest || p.Err != nil {
		t.Errorf("report %+v, want the end of the emergency", p)
	}
	r.set(-3 * time.Hour)
	_ = r.start()
	r.want(50, "after a restart with the clock set back")
}

// TestP10RestartsAddNoTime: an emergency is as long as it is, however often its process
// is killed and the clock set back, with a regular bundle that confirms the time and
// without; and a restart costs it a minute.
func TestP10RestartsAddNoTime(t *testing.T) {
	for name, tt := range map[string]struct {
		regular bool
		back    bool          // the clock is set back before each restart
		step    time.Duration // between two restarts
	}{
		"within each minute":            {true, true, 59 * time.Second},
		"within each minute, alone":     {false, true, 59 * time.Second},
		"after minutes":                 {true, true, 5 * time.Minute},
		"after minutes, alone":          {false, true, 5 * time.Minute},
		"with a clock that is right":    {true, false, 5 * time.Minute},
		"each minute, clock that is so": {true, false, 59 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			var fire func()
			r.after = func(_ time.Duration, f func()) func() bool {
				fire = f
				return func() bool { return true }
			}
			last := int64(0)
			if tt.regular {
				last = 50
				r.registry.put(r.signed(last, false))
				r.must(r.start())
			}
			const life = 12 * time.Minute
			r.registry.put(r.breakGlass(1, life))
			_ = r.start()
			r.want(1, "in an emergency")
			lasted := time.Duration(0)
			for r.serial() == 1 && lasted <= life {
				for left := tt.step; left > 0 && r.serial() == 1; left -= time.Minute {
					r.pass(min(left, time.Minute))
					lasted += min(left, time.Minute)
					if left >= time.Minute {
						fire()
					}
				}
				if tt.back {
					r.set(-lasted)
				}
				_ = r.start()
			}
			r.want(last, "when it is over")
			if least := life - 3*time.Minute; lasted > life || tt.step > time.Minute && lasted < least {
				t.Errorf("the emergency of %s lasted %s, want at least %s", life, lasted, least)
			}
			r.set(-life)
			_ = r.start()
			r.want(last, "after one more restart")
		})
	}
}

// TestEachRefusedVersionIsTold: nothing of an unsigned bundle is read, and yet the
// second one within an hour is another event, and the same one looked at again is not.
func TestEachRefusedVersionIsTold(t *testing.T) {
	unsigned := func(r *rig) signature.Artifact { return signature.Artifact{Tarball: r.tarball(6, day, true)} }
	noArchive := func(r *rig) signature.Artifact {
		return signaturetest.Forms()[0].Signed(r.t, []byte("x"), r.signer)
	}
	stranger := func(r *rig) signature.Artifact {
		return signaturetest.Forms()[0].Signed(r.t, r.tarball(6, day, true), signaturetest.NewSigner(r.t))
	}
	for name, bad := range map[string]func(r *rig) signature.Artifact{"unsigned": unsigned, "no archive": noArchive, "stranger": stranger} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			good := r.signed(5, true)
			r.registry.put(good)
			r.must(r.start())
			for round := range 3 {
				r.registry.put(bad(r))
				before := len(r.reports)
				for range 3 {
					if r.reload() == nil {
						t.Fatal("Reload() = nil, want it refused")
					}
				}
				if told := r.reports[before:]; len(told) != 1 || told[0].Err == nil {
					t.Errorf("round %d: %d reports of three looks at one version, want one failure", round, len(told))
				}
				r.registry.put(good)
				before = len(r.reports)
				r.must(r.reload())
				if told := r.reports[before:]; len(told) != 1 || told[0].Change != bundle.ChangeRecovered {
					t.Errorf("round %d: reports %+v after the good version, want it recovered", round, told)
				}
			}
			r.want(5, "all the while")
		})
	}
}
