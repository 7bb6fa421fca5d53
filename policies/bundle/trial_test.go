package bundle_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/bundle/store"
)

// killer compiles bundles of one serial as a process does that is killed over them:
// what it leaves on the disk is copied in the midst of it, and is where the next
// start finds itself.
type killer struct {
	r      *rig
	serial int64
	deaths int
}

func (k *killer) compile(ctx context.Context, b policies.Bundle, o policies.Options) (*policies.Engine, error) {
	if b.Manifest.Serial == k.serial {
		k.deaths++
		left := filepath.Join(k.r.t.TempDir(), "left")
		k.r.must(os.CopyFS(left, os.DirFS(k.r.dir)))
		k.r.dir = left
		return nil, errors.New("killed")
	}
	return policies.Compile(ctx, b, o)
}

// TestP8ABundleThatKillsTheProcess: three starts may die of it. The next one leaves
// it alone, and goes on with the last good one, which unmounts.
func TestP8ABundleThatKillsTheProcess(t *testing.T) {
	r := newRig(t)
	k := &killer{r: r, serial: 6}
	r.compile = k.compile
	r.registry.put(r.signed(5, true))
	r.must(r.start())
	r.registry.put(r.signed(6, true))
	_ = r.reload()
	for range 2 {
		_ = r.start()
	}
	if k.deaths != 3 {
		t.Fatalf("it was loaded %d times, want 3", k.deaths)
	}
	err := r.start()
	if bundle.ReasonOf(err) != bundle.ReasonInvalid || !strings.Contains(err.Error(), "has ended 3 times in a row") || strings.Count(err.Error(), "hint: ") != 1 {
		t.Errorf("Start() = %v, want it refused for what it did", err)
	}
	r.want(5, "after three deaths")
	for range 20 {
		r.pass(30 * time.Second)
		_ = r.reload()
	}
	if k.deaths != 3 {
		t.Errorf("it was loaded again within %d minutes", 10)
	}
	// One that is good is taken at once.
	r.registry.put(r.signed(7, true))
	r.must(r.reload())
	r.want(7, "with a good one at the source")
}

// TestP8ABundleThatKilledIsTriedLater: the container may have more memory now.
func TestP8ABundleThatKilledIsTriedLater(t *testing.T) {
	r := newRig(t)
	k := &killer{r: r, serial: 6}
	r.compile = k.compile
	r.registry.put(r.signed(5, true))
	r.must(r.start())
	r.registry.put(r.signed(6, true))
	for range 3 {
		_ = r.start()
	}
	_ = r.start()
	k.serial = 0
	_ = r.reload()
	r.want(5, "at once")
	r.pass(16 * time.Minute)
	r.must(r.reload())
	r.want(6, "after a quarter of an hour")
	if _, err := r.store.Trials(); !store.Absent(err) {
		t.Errorf("Trials() = %v, want none left", err)
	}
	r.must(r.start())
	r.want(6, "after a restart")
}

// TestP8TheStoresBundleKillsToo: a container that got less memory has nothing in
// force, and unmounts.
func TestP8TheStoresBundleKillsToo(t *testing.T) {
	r := newRig(t)
	r.registry.put(r.signed(5, true))
	r.must(r.start())
	r.registry.down()
	k := &killer{r: r, serial: 5}
	r.compile = k.compile
	for range 5 {
		_ = r.start()
	}
	if r.want(0, "after it killed"); k.deaths != 3 {
		t.Errorf("it was loaded %d times, want 3", k.deaths)
	}
}

// TestDeathsAreCountedInARow: one that loads in the end was not what killed, and what
// nobody vouches for is not written down.
func TestDeathsAreCountedInARow(t *testing.T) {
	r := newRig(t)
	k := &killer{r: r, serial: 5}
	r.compile = k.compile
	r.registry.put(r.signed(5, true))
	for range 3 {
		k.serial = 5
		_ = r.start()
		_ = r.start()
		k.serial = 0
		r.must(r.start())
	}
	r.want(5, "in the end")
	unsigned := r.signed(6, true)
	unsigned.Signatures = nil
	r.registry.put(unsigned)
	r.step = func(name string) error {
		if strings.HasPrefix(name, "loading.json") {
			t.Errorf("step %s for a stranger's bundle", name)
		}
		return nil
	}
	_ = r.reload()
}

// until looks until a serial decides: a busy machine takes longer than an attempt waits.
func (r *rig) until(serial int64) {
	r.t.Helper()
	for end := time.Now().Add(time.Minute); r.serial() != serial && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		_ = r.reload()
	}
	r.want(serial, "after some looks")
}

// TestP8ACompilerThatDoesNotEnd: neither a start nor a look waits for it, the last
// good bundle decides, and another one gets in beside it.
func TestP8ACompilerThatDoesNotEnd(t *testing.T) {
	r := newRig(t)
	var begun atomic.Int64
	release := make(chan struct{})
	r.compile = func(ctx context.Context, b policies.Bundle, o policies.Options) (*policies.Engine, error) {
		if b.Manifest.Serial%2 == 0 {
			begun.Add(1)
			<-release
		}
		return policies.Compile(ctx, b, o)
	}
	r.registry.put(r.signed(5, true))
	r.must(r.start())
	r.patience = 200 * time.Millisecond
	r.registry.put(r.signed(6, true))
	for range 2 {
		if err := r.start(); bundle.ReasonOf(err) != bundle.ReasonUnreadable || !strings.Contains(err.Error(), "still being compiled") {
			t.Errorf("Start() = %v, want that it is still being compiled", err)
		}
		r.until(5)
		if err := r.reload(); bundle.ReasonOf(err) != bundle.ReasonUnreadable {
			t.Errorf("Reload() = %v, want that it is still being compiled", err)
		}
	}
	if n := begun.Load(); n != 2 {
		t.Errorf("the compiler has it %d times in two processes, want once in each", n)
	}
	r.patience = 0
	r.registry.put(r.signed(7, true))
	r.must(r.start())
	r.want(7, "beside one that does not end")
	r.patience = 200 * time.Millisecond
	_ = r.start()
	r.until(7)
	for _, serial := range []int64{8, 10, 12, 14} {
		r.registry.put(r.signed(serial, true))
		_ = r.reload()
	}
	if err := r.reload(); err == nil || !strings.Contains(err.Error(), "3 other policy bundles are still being compiled") {
		t.Errorf("Reload() of a fourth = %v, want it refused", err)
	}
	r.want(7, "beside three that do not end")
	// What ends later is there, and is not compiled anew.
	r.registry.put(r.signed(12, true))
	before := begun.Load()
	close(release)
	r.until(12)
	if n := begun.Load(); n != before {
		t.Errorf("it was compiled %d times more, want what was there", n-before)
	}
}

// TestTheEndOfAProcessIsNoDeath: SIGTERM while the compiler works.
func TestTheEndOfAProcessIsNoDeath(t *testing.T) {
	r := newRig(t)
	release := make(chan struct{})
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	r.compile = func(context.Context, policies.Bundle, policies.Options) (*policies.Engine, error) {
		cancel()
		<-release
		return nil, errors.New("over")
	}
	r.registry.put(r.signed(5, true))
	if err := r.startIn(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Start() = %v, want canceled", err)
	}
	if trials, err := r.store.Trials(); !store.Absent(err) {
		t.Errorf("Trials() = %v, %v, want none", trials, err)
	}
}

// TestACompilerOutlivesItsSource: the end of the process is not the bundle's doing, and
// what the compiler ends with later touches no store that is closed.
func TestACompilerOutlivesItsSource(t *testing.T) {
	r := newRig(t)
	release, over := make(chan struct{}), make(chan struct{})
	var made atomic.Pointer[policies.Engine] // of serial 5, which the second start has at once
	r.compile = func(ctx context.Context, b policies.Bundle, o policies.Options) (*policies.Engine, error) {
		if b.Manifest.Serial == 6 {
			<-release
			defer close(over)
		} else if e := made.Load(); e != nil {
			return e, nil
		}
		e, err := policies.Compile(ctx, b, o)
		made.CompareAndSwap(nil, e)
		return e, err
	}
	r.registry.put(r.signed(5, true))
	r.must(r.start())
	r.patience = 50 * time.Millisecond
	r.must(r.start())
	r.registry.put(r.signed(6, true))
	if err := r.reload(); err == nil || !strings.Contains(err.Error(), "still being compiled") {
		t.Fatalf("Reload() = %v, want that it is still being compiled", err)
	}
	r.source.Close()
	if _, err := r.store.Trials(); !store.Absent(err) {
		t.Errorf("Trials() after Close = %v, want none left", err)
	}
	r.step = func(name string) error {
		t.Errorf("step %s after Close", name)
		return nil
	}
	close(release)
	<-over
	time.Sleep(20 * time.Millisecond) // what follows the compiler, if anything does
}
