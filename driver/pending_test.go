package driver_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/driver"
)

func TestPendingIsOneTaskAVolume(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	in := func(d time.Duration) time.Time { return now.Add(d) }
	for name, c := range map[string]struct {
		do   func(driver.Pending)
		want []string // as they are taken a minute later
		wait time.Duration
	}{
		"nothing": {func(driver.Pending) {}, nil, time.Minute},
		"in the order of their times": {func(p driver.Pending) {
			p.Add("b", "policy", in(2*time.Second))
			p.Add("a", "denial", in(500*time.Millisecond))
		}, []string{"a denial", "b policy"}, 500 * time.Millisecond},
		"the earlier one stands for both": {func(p driver.Pending) {
			p.Add("a", "policy", now)
			p.Add("a", "denial", in(time.Second))
		}, []string{"a policy"}, 0},
		"also when it comes later": {func(p driver.Pending) {
			p.Add("a", "denial", in(time.Second))
			p.Add("a", "policy", now)
		}, []string{"a policy"}, 0},
		"a change of the pod is not forgotten": {func(p driver.Pending) {
			p.Add("a", "policy", now)
			p.Add("a", "pod", in(time.Second))
		}, []string{"a pod"}, 0},
		"nor by another bundle": {func(p driver.Pending) {
			p.Add("a", "pod", in(time.Second))
			p.Add("a", "policy", now)
			p.Add("b", "policy", now)
			p.Cancel()
		}, []string{"a pod"}, 0},
		"unmounted": {func(p driver.Pending) {
			p.Add("a", "pod", now)
			p.Forget("a")
		}, nil, time.Minute},
		"a time far off is looked at soon": {func(p driver.Pending) { p.Add("a", "denial", in(time.Minute)) }, []string{"a denial"}, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			p := driver.NewPending()
			c.do(p)
			if got := p.Wait(now); got != c.wait {
				t.Errorf("wait = %v, want %v", got, c.wait)
			}
			var got []string
			for {
				task, ok := p.Take(now.Add(time.Minute))
				if !ok {
					break
				}
				got = append(got, task)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("tasks (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPendingTasksWaitForTheirTime(t *testing.T) {
	now := time.Now()
	p := driver.NewPending()
	p.Add("a", "denial", now.Add(time.Second))
	if task, ok := p.Take(now); ok {
		t.Errorf("taken = %s, want nothing for a second", task)
	}
	if task, ok := p.Take(now.Add(time.Second)); !ok || task != "a denial" {
		t.Errorf("taken = %q, want the task", task)
	}
}

func TestP8WhoeverWantsATargetCancelsWhatYields(t *testing.T) {
	for name, want := range map[string]func(*testing.T, driver.Locks) (func(), error){
		"a publish": func(t *testing.T, l driver.Locks) (func(), error) {
			t.Helper()
			_, release, err := l.Acquire(t.Context(), "uid", "vol")
			return release, err
		},
		"an unpublish": func(t *testing.T, l driver.Locks) (func(), error) {
			t.Helper()
			return l.Preempt(t.Context(), "uid", "vol")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				locks := driver.NewTargetLocks()
				held, release, free := locks.Try(t.Context(), "uid", "vol")
				if !free || held.Err() != nil {
					t.Fatalf("Try() = %t, %v, want the target", free, held.Err())
				}
				go func() {
					<-held.Done() // as long as nobody wants it
					release()
				}()
				begin := time.Now()
				done, err := want(t, locks)
				if err != nil {
					t.Fatalf("locking = %v, want nil", err)
				}
				if _, _, free := locks.Try(t.Context(), "uid", "vol"); free {
					t.Error("Try() of a target that is in use took it")
				}
				done()
				if waited := time.Since(begin); waited != 0 || locks.Len() != 0 {
					t.Errorf("waited %v, %d locks left, want no wait and none", waited, locks.Len())
				}
			})
		})
	}
}

// TestAPublishDoesNotCancelAPublish: of what does not yield only an unpublish
// cancels.
func TestAPublishDoesNotCancelAPublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := driver.NewTargetLocks()
		held, release, err := locks.Acquire(t.Context(), "uid", "vol")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, next, err := locks.Acquire(t.Context(), "uid", "vol")
			if err != nil {
				t.Errorf("Acquire() = %v, want nil", err)
				return
			}
			next()
		}()
		synctest.Wait()
		if err := held.Err(); err != nil {
			t.Errorf("the holder's context = %v, want nil", err)
		}
		release()
		<-done
	})
}
