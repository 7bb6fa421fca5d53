package bundle_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portcullis-csi/portcullis/policies/bundle"
)

// TestStartWithAHungSource: a node mounts after a reboot while the registry hangs:
// five seconds, then the store decides, and Run goes on asking.
func TestStartWithAHungSource(t *testing.T) {
	r := newRig(t)
	r.registry.put(r.signed(5, true))
	r.must(r.start())
	next := r.signed(6, true)
	synctest.Test(t, func(t *testing.T) {
		r.t = t
		r.registry.hang = true
		begin := time.Now()
		if err := r.start(); bundle.ReasonOf(err) != bundle.ReasonUnreadable {
			t.Errorf("Start() = %v, want unreadable", err)
		}
		if d := time.Since(begin); d != 5*time.Second {
			t.Errorf("Start() took %s, want 5s", d)
		}
		r.want(5, "with a source that hangs")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.source.Run(ctx, time.Hour) }()
		synctest.Wait()
		// Run asks at once, with more time, and an attempt ends after two minutes.
		time.Sleep(2*time.Minute - time.Second)
		synctest.Wait()
		before := r.source.Status().Failures[bundle.ReasonUnreadable]
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := r.source.Status().Failures[bundle.ReasonUnreadable]; before != 1 || got != 2 {
			t.Errorf("%d failures within two minutes and %d after, want 1 and 2", before, got)
		}
		r.want(5, "after an attempt that hung")
		r.registry.mu.Lock()
		r.registry.hang = false
		r.registry.mu.Unlock()
		r.registry.put(next)
		r.source.Trigger()
		synctest.Wait()
		r.want(6, "when the source answers again")
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v, want nil", err)
		}
	})
}

// TestStartIsCutShort: who ends the process while it starts gets no failure that is
// told: nobody has refused anything.
func TestStartIsCutShort(t *testing.T) {
	r := newRig(t)
	r.registry.hang = true
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = r.startIn(ctx)
	if len(r.reports) != 0 || len(r.source.Status().Failures) != 0 {
		t.Errorf("%d reports, failures %v, want none", len(r.reports), r.source.Status().Failures)
	}
}

// begin starts in a bubble: a Source of outside would not wait by its time.
func (r *rig) begin(t *testing.T) {
	t.Helper()
	r.t = t
	r.must(r.start())
}

// asked is when a source was asked.
func (r *rig) asked(t *testing.T, interval time.Duration, times int) (pauses []time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	last := time.Now()
	asked := make(chan time.Time)
	r.registry.onResolve = func() {
		select {
		case asked <- time.Now():
		case <-ctx.Done():
		}
	}
	go func() { done <- r.source.Run(ctx, interval) }()
	for range times {
		now := <-asked
		pauses = append(pauses, now.Sub(last))
		last = now
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run() = %v, want nil", err)
	}
	return pauses
}

// TestPauses: an interval, give or take a fifth; doubled with each failure after the
// first, to five minutes or the interval if that is longer; and back at once.
func TestPauses(t *testing.T) {
	tests := map[string]struct {
		interval time.Duration
		down     bool
		want     []time.Duration // centers
	}{
		"good":               {30 * time.Second, false, []time.Duration{30 * time.Second, 30 * time.Second, 30 * time.Second, 30 * time.Second}},
		"down":               {30 * time.Second, true, []time.Duration{30 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 5 * time.Minute, 5 * time.Minute}},
		"down, seldom":       {time.Hour, true, []time.Duration{time.Hour, time.Hour, time.Hour}},
		"down, four minutes": {4 * time.Minute, true, []time.Duration{4 * time.Minute, 4 * time.Minute, 5 * time.Minute, 5 * time.Minute}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.registry.put(r.signed(5, true))
			synctest.Test(t, func(t *testing.T) {
				r.begin(t)
				if tt.down {
					r.registry.down()
				}
				for i, d := range r.asked(t, tt.interval, len(tt.want)) {
					if least, most := tt.want[i]-tt.want[i]/5, tt.want[i]+tt.want[i]/5; d < least || d > most {
						t.Errorf("pause %d = %s, want %s to %s", i, d, least, most)
					}
				}
			})
		})
	}
}

// TestPausesAfterRefusals: a bundle that is refused holds up the next one by no more
// than an interval, and is not fetched again each time.
func TestPausesAfterRefusals(t *testing.T) {
	r := newRig(t)
	r.registry.put(r.signed(5, true))
	synctest.Test(t, func(t *testing.T) {
		r.begin(t)
		unsigned := r.signed(6, true)
		unsigned.Signatures = nil
		r.registry.put(unsigned)
		for i, d := range r.asked(t, 30*time.Second, 8) {
			if least, most := 24*time.Second, 36*time.Second; d < least || d > most {
				t.Errorf("pause %d = %s, want %s to %s", i, d, least, most)
			}
		}
		if got := r.source.Status().Failures[bundle.ReasonUnsigned] + r.source.Status().Failures[bundle.ReasonUntrusted]; got < 7 {
			t.Errorf("it was refused %d times, want each time", got)
		}
	})
}

// TestPausesDiffer: a thousand nodes do not come at once, nor in step.
func TestPausesDiffer(t *testing.T) {
	r := newRig(t)
	r.registry.put(r.signed(5, true))
	const most = 100
	synctest.Test(t, func(t *testing.T) {
		r.begin(t)
		var early, late int
		seen := map[time.Duration]bool{}
		for _, d := range r.asked(t, time.Minute, most) {
			seen[d] = true
			switch {
			case d < 54*time.Second:
				early++
			case d > 66*time.Second:
				late++
			}
		}
		// A quarter each, of an even spread.
		if len(seen) < most*9/10 || early < most/10 || late < most/10 {
			t.Errorf("%d pauses of %d, %d early and %d late, want them spread", len(seen), most, early, late)
		}
	})
}

// TestPauseAfterRecovery: one good attempt, and the source is asked as ever.
func TestPauseAfterRecovery(t *testing.T) {
	r := newRig(t)
	r.registry.put(r.signed(5, true))
	artifact := r.registry.artifact
	synctest.Test(t, func(t *testing.T) {
		r.begin(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		times := make(chan time.Time, 100)
		r.registry.onResolve = func() { times <- time.Now() }
		r.registry.down()
		go func() { _ = r.source.Run(ctx, 30*time.Second) }()
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		if n := len(times); n < 7 || n > 13 {
			t.Errorf("%d attempts in half an hour of a source that is down, want about ten", n)
		}
		r.registry.mu.Lock()
		r.registry.artifact = artifact
		r.registry.mu.Unlock()
		r.source.Trigger()
		synctest.Wait()
		if err := r.source.Failure(); err != nil {
			t.Fatalf("Failure() = %v after a Trigger, want nil", err)
		}
		for len(times) > 0 {
			<-times
		}
		begin := time.Now()
		if d := (<-times).Sub(begin); d > 36*time.Second {
			t.Errorf("the next attempt came after %s, want the interval again", d)
		}
	})
}

// TestTriggersAreOne: however often somebody asks, one attempt follows the running
// one, and nobody waits.
func TestTriggersAreOne(t *testing.T) {
	r := newRig(t)
	r.registry.put(r.signed(5, true))
	synctest.Test(t, func(t *testing.T) {
		r.begin(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		asked := 0
		r.registry.onResolve = func() { asked++; time.Sleep(time.Second) }
		go func() { _ = r.source.Run(ctx, time.Hour) }()
		begin := time.Now()
		for range 100 {
			r.source.Trigger()
		}
		synctest.Wait()
		for range 100 {
			r.source.Trigger()
		}
		if d := time.Since(begin); d != 0 {
			t.Errorf("Trigger() waited %s", d)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if asked != 2 {
			t.Errorf("%d attempts, want the running one and one more", asked)
		}
	})
}
