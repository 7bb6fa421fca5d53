package bundle_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portcullis-csi/portcullis/policies/bundle"
)

// TestCloseEndsAnAttemptThatHangs: a registry that does not answer holds up no end of
// a process, and that it was cut short is no failure of it.
func TestCloseEndsAnAttemptThatHangs(t *testing.T) {
	r := newRig(t)
	r.registry.put(r.signed(5, true))
	synctest.Test(t, func(t *testing.T) {
		r.begin(t)
		before := len(r.reports)
		r.registry.hang = true
		done := make(chan error, 1)
		go func() { done <- r.source.Run(t.Context(), time.Hour) }()
		r.source.Trigger()
		synctest.Wait()
		began := time.Now()
		r.source.Close()
		if err := <-done; err != nil || time.Since(began) > 0 {
			t.Errorf("Run() = %v, %s after Close, want nil and at once", err, time.Since(began))
		}
		r.source.Close()
		if err := r.reload(); err == nil || r.source.Status().Failures[bundle.ReasonUnreadable] != 0 || len(r.reports) != before {
			t.Errorf("Reload() after Close = %v, failures %v, %d reports, want an error that is told to nobody", err, r.source.Status().Failures, len(r.reports)-before)
		}
		r.want(5, "after Close")
	})
}

// TestCloseWaitsForWhatIsReported: the log that reports go to is closed after it.
func TestCloseWaitsForWhatIsReported(t *testing.T) {
	reported, let := make(chan struct{}), make(chan struct{})
	s, err := bundle.NewSource(bundle.Config{Verifier: bundle.Path("none"), Report: func(bundle.Report) { close(reported); <-let }})
	if err != nil {
		t.Fatal(err)
	}
	var reloading sync.WaitGroup
	reloading.Go(func() { _ = s.Reload(t.Context()) })
	<-reported
	closed := make(chan struct{})
	go func() { s.Close(); close(closed) }()
	select {
	case <-closed:
		t.Error("Close() returned while a report is under way, want it to wait")
	case <-time.After(50 * time.Millisecond):
	}
	close(let)
	<-closed
	reloading.Wait()
}

// TestNoTimerAfterClose: an emergency that ends by a timer writes its end into the
// store, which is closed by then.
func TestNoTimerAfterClose(t *testing.T) {
	r := newRig(t)
	var timers []func()
	stopped := 0
	r.after = func(_ time.Duration, f func()) func() bool {
		timers = append(timers, f)
		return func() bool { stopped++; return true }
	}
	r.registry.put(r.signed(50, false))
	r.must(r.start())
	r.registry.put(r.breakGlass(1, 3*time.Hour))
	r.must(r.reload())
	before, reports := stopped, len(r.reports)
	r.source.Close()
	if stopped != before+1 {
		t.Errorf("Close() stopped %d timers, want the one that runs", stopped-before)
	}
	r.must(r.store.Close())
	r.pass(3 * time.Hour)
	timers[len(timers)-1]() // it was firing already
	if st := r.source.Status(); len(r.reports) != reports || st.Disk != nil {
		t.Errorf("after Close a timer reported %d times, and the store says %v, want nothing", len(r.reports)-reports, st.Disk)
	}
	r.store = nil
	_ = r.start()
	r.want(50, "after a restart")
}
