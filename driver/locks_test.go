package driver_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portcullis-csi/portcullis/driver"
)

func TestTargetLocksOneHolderAtATime(t *testing.T) {
	locks := driver.NewTargetLocks()
	var holders, most int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			_, release, err := locks.Acquire(t.Context(), "uid", "vol")
			if err != nil {
				t.Errorf("Acquire() = %v, want nil", err)
				return
			}
			mu.Lock()
			holders++
			most = max(most, holders)
			mu.Unlock()
			time.Sleep(time.Millisecond)
			mu.Lock()
			holders--
			mu.Unlock()
			release()
		})
	}
	wg.Wait()
	if most != 1 {
		t.Errorf("holders at once = %d, want 1", most)
	}
	if n := locks.Len(); n != 0 {
		t.Errorf("locks left over = %d, want 0", n)
	}
}

func TestTargetLocksAreIndependent(t *testing.T) {
	locks := driver.NewTargetLocks()
	_, release, err := locks.Acquire(t.Context(), "uid", "one")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, other, err := locks.Acquire(ctx, "uid", "two")
	if err != nil {
		t.Fatalf("Acquire(another target) = %v, want nil", err)
	}
	other()
}

func TestTargetLocksGiveUpWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := driver.NewTargetLocks()
		_, release, err := locks.Acquire(t.Context(), "uid", "vol")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, _, err := locks.Acquire(ctx, "uid", "vol"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Acquire(held) = %v, want deadline exceeded", err)
		}
		release()
		if n := locks.Len(); n != 0 {
			t.Errorf("locks left over = %d, want 0", n)
		}
	})
}

func TestP8UnpublishPreemptsAHungPublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := driver.NewTargetLocks()
		ctx, release, err := locks.Acquire(t.Context(), "uid", "vol")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			<-ctx.Done() // a provider that never answers, given up
			release()
		}()
		begin := time.Now()
		done, err := locks.Preempt(t.Context(), "uid", "vol")
		if err != nil {
			t.Fatalf("Preempt() = %v, want nil", err)
		}
		done()
		if waited := time.Since(begin); waited != 0 {
			t.Errorf("Preempt() waited %v, want no wait", waited)
		}
	})
}

func TestP8UnpublishGoesBeforePublishesThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := driver.NewTargetLocks()
		ctx, release, err := locks.Acquire(t.Context(), "uid", "vol")
		if err != nil {
			t.Fatal(err)
		}
		const waiting = 5
		turnedAway := make(chan error, waiting)
		for range waiting {
			go func() {
				held, release, err := locks.Acquire(t.Context(), "uid", "vol")
				if err == nil {
					<-held.Done() // as if its provider hung, too
					release()
				}
				turnedAway <- err
			}()
		}
		synctest.Wait()
		go func() {
			<-ctx.Done()
			release()
		}()
		done, err := locks.Preempt(t.Context(), "uid", "vol")
		if err != nil {
			t.Fatalf("Preempt() = %v, want nil", err)
		}
		done()
		for range waiting {
			// Those that came first may have had it; none kept it.
			if err := <-turnedAway; err != nil && !errors.Is(err, driver.ErrPreempted) {
				t.Errorf("Acquire() = %v, want nil or ErrPreempted", err)
			}
		}
		if n := locks.Len(); n != 0 {
			t.Errorf("locks left over = %d, want 0", n)
		}
	})
}
