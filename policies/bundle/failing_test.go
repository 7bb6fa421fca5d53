package bundle_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/bundle/store"
)

var errFull = errors.New("no space left on device")

// full makes the disk take nothing, or only the state, or only bundles.
func (r *rig) full(names ...string) {
	r.step = func(step string) error {
		for _, name := range names {
			if strings.HasPrefix(step, name+"/") {
				return errFull
			}
		}
		return nil
	}
}

// TestP10FullDisk: what arrives is in force all the same, and the disk is written as
// soon as it can be.
func TestP10FullDisk(t *testing.T) {
	for name, files := range map[string][]string{"bundle": {"bundle"}, "state": {"state.json"}, "both": {"bundle", "state.json"}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			var full []string
			r.step = func(step string) error {
				for _, name := range full {
					if strings.HasPrefix(step, name+"/") {
						return errFull
					}
				}
				return nil
			}
			r.registry.put(r.signed(5, true))
			r.must(r.start())
			full = files
			r.registry.put(r.signed(6, true))
			r.must(r.reload())
			r.want(6, "with a full disk")
			if st := r.source.Status(); !errors.Is(st.Disk, errFull) || st.Floor.Serial != 6 {
				t.Errorf("Status().Disk = %v with floor %d, want the disk's error and floor 6", st.Disk, st.Floor.Serial)
			}
			r.registry.put(r.signed(5, true))
			if err := r.reload(); bundle.ReasonOf(err) != bundle.ReasonSerial {
				t.Errorf("Reload() of serial 5 = %v, want that the floor holds without a disk", err)
			}
			full = nil
			_ = r.reload()
			if st := r.source.Status(); st.Disk != nil {
				t.Errorf("Status().Disk = %v, want nil after an attempt with space", st.Disk)
			}
			r.registry.down()
			_ = r.start()
			r.want(6, "after a restart")
		})
	}
}

// TestP10FullDiskAndRestart: what could not be kept is fetched anew, and a floor
// that was kept without its bundle lets nothing older in.
func TestP10FullDiskAndRestart(t *testing.T) {
	r := newRig(t)
	r.registry.put(r.signed(5, true))
	r.must(r.start())
	r.full("bundle")
	r.must(r.start())
	r.registry.put(r.signed(6, true))
	r.must(r.reload())
	r.full()
	r.registry.down()
	_ = r.start()
	if got, floor := r.serial(), r.source.Status().Floor.Serial; got != 0 || floor != 6 {
		t.Errorf("serial %d decides with floor %d, want none below the floor 6 that was in force", got, floor)
	}
	r.registry.put(r.signed(6, true))
	if err := r.reload(); err != nil {
		t.Errorf("Reload() of the bundle again = %v, want nil", err)
	}
	r.want(6, "when the source has it again")
}

// TestP10DamagedStore: readiness says that a node has lost what it knew, and what it
// has is no licence for anything.
func TestP10DamagedStore(t *testing.T) {
	for _, name := range []string{"state.json", "bundle"} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.registry.put(r.signed(5, true))
			r.must(r.start())
			flip(t, r.dir+"/"+name)
			r.registry.down()
			r.floor = &clusterFloor{err: errDown}
			_ = r.start()
			st := r.source.Status()
			r.want(0, "from a damaged store without a cluster")
			switch name {
			case "state.json":
				if !errors.Is(st.Disk, store.ErrDamaged) || st.Failures[bundle.ReasonFloor] != 1 {
					t.Errorf("Status() = %v %v, want damage and a missing floor", st.Disk, st.Failures)
				}
			case "bundle":
				if st.Floor.Serial != 5 || st.Failures[bundle.ReasonUnreadable] != 2 {
					t.Errorf("Status() = floor %d %v, want the floor and two sources that fail", st.Floor.Serial, st.Failures)
				}
			}
			r.floor = nil
			r.registry.put(r.signed(5, true))
			r.must(r.start())
			if err := r.source.Status().Disk; err != nil {
				t.Errorf("Status().Disk = %v, want nil after it was written anew", err)
			}
		})
	}
}

// TestP10StoreNamesNoVersion: who can write the store puts an old bundle there under
// the name of the newest. It decides while the source is down, if the floor is lost
// too, and not a moment longer.
func TestP10StoreNamesNoVersion(t *testing.T) {
	r := newRig(t)
	old := r.signed(5, true)
	r.registry.put(old)
	r.must(r.start())
	r.registry.put(r.signed(6, false))
	r.must(r.reload())
	version, err := r.registry.Resolve(t.Context())
	r.must(err)
	now := r.registry.artifact
	r.must(r.store.KeepBundle(store.Kept{Version: version, Artifact: old}))
	r.must(r.store.KeepState(store.State{}))
	r.registry.down()
	_ = r.start()
	r.want(5, "from a store that was exchanged with the source down")
	r.registry.artifact = now
	r.must(r.reload())
	r.want(6, "when the source is there again")
	if origin := r.source.Status().Origin; origin != bundle.OriginSource {
		t.Errorf("Origin = %s, want the source", origin)
	}
}

// TestOriginAfterTheSourceIsBack: readiness stops to warn of a bundle from the store
// when the source has the very same.
func TestOriginAfterTheSourceIsBack(t *testing.T) {
	r := newRig(t)
	r.registry.put(r.signed(5, true))
	r.must(r.start())
	since := r.source.Status().Since
	artifact := r.registry.artifact
	r.registry.down()
	_ = r.start()
	if st := r.source.Status(); st.Origin != bundle.OriginStore || st.Failure == nil {
		t.Errorf("Status() = %s, %v, want the store and a failure", st.Origin, st.Failure)
	}
	engine := r.source.Active()
	r.registry.artifact = artifact
	r.pass(time.Minute)
	r.must(r.reload())
	st := r.source.Status()
	if st.Origin != bundle.OriginSource || st.Failure != nil || r.source.Active() != engine || !st.Since.Equal(since) {
		t.Errorf("Status() = %+v, want the source and the same engine since %s", st, since)
	}
	if last := r.last(); last.Change != bundle.ChangeRecovered || last.Origin != bundle.OriginSource {
		t.Errorf("last report %+v, want that the source has recovered", last)
	}
	before := r.registry.fetches
	r.must(r.reload())
	if r.registry.fetches != before {
		t.Error("the bundle in force is fetched again")
	}
}

// TestP10EndedSourceBesideFallback: a source that still has what has ended is not
// good because the fallback decides.
func TestP10EndedSourceBesideFallback(t *testing.T) {
	fallback := &registry{}
	r := newRig(t)
	r.fallback = fallback
	r.registry.put(r.signed(5, true))
	r.must(r.start())
	r.pass(31 * day)
	fallback.put(r.signed(6, true))
	for range 3 {
		if err := r.reload(); bundle.ReasonOf(err) != bundle.ReasonExpired {
			t.Errorf("Reload() = %v, want expired", err)
		}
		r.want(6, "after the end of the source's bundle")
	}
	if st := r.source.Status(); st.Origin != bundle.OriginFallback || st.Ended || st.Failure == nil {
		t.Errorf("Status() = %+v, want the fallback and a failure", st)
	}
	for _, p := range r.reports {
		if p.Change == bundle.ChangeRecovered {
			t.Errorf("report %+v of a source that is not good", p)
		}
	}
}

// flip turns a bit of a file.
func flip(t testing.TB, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 1
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
