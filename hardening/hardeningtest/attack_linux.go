package hardeningtest

import (
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Attack is somebody who does the same thing to the node over and over, beside
// the test.
type Attack struct {
	hits atomic.Int64
	stop func()
}

// StartAttack runs step until Stop, on a thread that first calls enter: Host,
// or what Container returns. The test must call Stop; its end does so too.
func StartAttack(t testing.TB, enter func() error, step func(i int)) *Attack {
	t.Helper()
	a := &Attack{}
	ready, done := make(chan error, 1), make(chan struct{})
	var running sync.WaitGroup
	onOwnThread(&running, func() {
		err := enter()
		ready <- err
		for i := 0; err == nil; i++ {
			select {
			case <-done:
				return
			default:
			}
			a.hits.Add(1)
			step(i)
			a.hits.Add(1)
			pause()
		}
	})
	if err := <-ready; err != nil {
		t.Fatalf("enter where the attacker stands: %v", err)
	}
	a.stop = sync.OnceFunc(func() {
		close(done)
		running.Wait()
	})
	t.Cleanup(a.stop)
	return a
}

// Hits counts the beginnings and the ends of steps: it is odd while one runs.
func (a *Attack) Hits() int64 { return a.hits.Load() }

// Stop waits for the end of the last step.
func (a *Attack) Stop() { a.stop() }

// Host is where a privileged pod with propagation stands: what it mounts
// appears on the node.
func Host() error { return nil }

// Container returns where somebody stands who has the directory root, and what
// is below it, in a mount namespace of its own: nothing that is mounted on the
// node is busy there, so that it can be renamed.
func Container(root string) func() error {
	return func() error {
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return err
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		text, err := os.ReadFile("/proc/thread-self/mountinfo")
		for line := range strings.Lines(string(text)) {
			if point := strings.Fields(line)[4]; strings.HasPrefix(point, root+"/") {
				_ = unix.Unmount(point, unix.MNT_DETACH)
			}
		}
		return err
	}
}

// onOwnThread runs f on a thread that ends with it, and its namespace with it.
// That is not the first thread, whose mount table /proc/self shows.
func onOwnThread(group *sync.WaitGroup, f func()) {
	group.Go(func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		var again sync.WaitGroup
		onOwnThread(&again, f) // this thread is taken until that has ended
		again.Wait()
		runtime.UnlockOSThread()
	})
}

// pause keeps a state for no time, for a moment, or for the length of many
// calls: races are won at all distances.
func pause() {
	switch rand.IntN(4) {
	case 0:
	case 1:
		runtime.Gosched()
	default:
		time.Sleep(rand.N(time.Millisecond))
	}
}
