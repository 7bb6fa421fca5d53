package hardening_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/hardening"
)

const page = 4096

func pages(n int) hardening.File { return sizedFile("a", n*page) }

func assertSize(t *testing.T, v *hardening.Volume, want int64) {
	t.Helper()
	if st, err := v.Stats(); err != nil || st.BytesTotal != want*page {
		t.Errorf("Stats() = %d pages, %v, want %d", st.BytesTotal/page, err, want)
	}
}

// TestSizeFollowsTheContent: what a node has promised to its volumes is what
// they hold, twice, and a page.
func TestSizeFollowsTheContent(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		v, target, _ := n.publish(t, "vol", anyone, pages(3))
		assertSize(t, v, 7)
		for _, step := range []int{3, 1, 20, 2} {
			if _, err := v.Replace([]hardening.File{pages(step)}); err != nil {
				t.Fatalf("Replace(%d pages) = %v, want nil", step, err)
			}
			assertSize(t, v, int64(2*step+1))
			assertState(t, target, hardening.StateOurs)
		}
	})
}

func TestSizeIsBounded(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		v, target, dir := n.publish(t, "vol", anyone, valued("a", "v1"))
		tests := []struct {
			name           string
			content, total int64
			pages          int
			field          string // of the LimitError; none: accepted
		}{
			{"content beyond its limit", 2 * page, 100 * page, 3, "volume bytes"},
			{"two generations beyond the total", 100 * page, 3 * page, 3, "volume size"},
			{"nothing allowed", 0, 0, 1, "volume bytes"},
			{"negative", -1, -1, 1, "volume bytes"},
			{"what there is already", page, 3 * page, 1, ""},
			{"just enough", 3 * page, 4 * page, 3, ""},
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				before, err := os.ReadFile(dir + "/a")
				check(t, "read", err)
				v.Allow(tt.content, hardening.UpTo(tt.total))
				changed, err := v.Replace([]hardening.File{pages(tt.pages)})
				if tt.field == "" {
					if !changed || err != nil {
						t.Errorf("Replace() = %v, %v, want true, nil", changed, err)
					}
					return
				}
				e, ok := errors.AsType[*hardening.LimitError](err)
				if changed || !ok || e.Field != tt.field || e.Remedy == "" {
					t.Errorf("Replace() = %v, %v, want false and a LimitError of %q", changed, err, tt.field)
				}
				assertContent(t, dir+"/a", string(before))
			})
		}
		assertState(t, target, hardening.StateOurs)
	})
}

// TestPinnedGenerationsAreBounded rotates while a container keeps every old
// file open, as subPath mounts do, until the volume may not grow any more.
func TestPinnedGenerationsAreBounded(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		const most = 10
		v, _, dir := n.publish(t, "vol", anyone, valued("a", "v0"))
		v.Allow(page, hardening.UpTo(most*page))
		var held []*os.File
		hold := func() {
			f, err := os.Open(dir + "/a")
			check(t, "open", err)
			held = append(held, f)
		}
		hold()
		rotations := 0
		var err error
		for changed := true; changed && rotations < 2*most; {
			changed, err = v.Replace([]hardening.File{valued("a", fmt.Sprint("v", rotations+1))})
			if changed {
				rotations++
				hold()
			}
		}
		if _, ok := errors.AsType[*hardening.LimitError](err); !ok || rotations != most-1 {
			t.Errorf("%d rotations, then %v, want %d and a LimitError", rotations, err, most-1)
		}
		assertContent(t, dir+"/a", fmt.Sprint("v", rotations))
		for _, f := range held {
			check(t, "close", f.Close())
		}
		if changed, err := v.Replace([]hardening.File{valued("a", "after")}); !changed || err != nil {
			t.Errorf("Replace() with nothing held = %v, %v, want true, nil", changed, err)
		}
		assertContent(t, dir+"/a", "after")
		assertSize(t, v, 3)
	})
}

// TestPinnedDirectoriesAreBounded: a directory that is held open takes no bytes,
// and no capability is needed to hold it. Nothing of a generation that does not
// fit may stay.
func TestPinnedDirectoriesAreBounded(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		v, _, dir := n.publish(t, "vol", hardening.Limits{Bytes: 1 << 20, Inodes: 8}, valued("a", "v0"), valued("d/b", "v0"))
		var held []*os.File
		var err error
		rotations := 0
		for changed := true; changed && rotations < 100; {
			f, openErr := os.Open(dir + "/d")
			check(t, "open", openErr)
			held = append(held, f)
			value := fmt.Sprint("v", rotations+1)
			if changed, err = v.Replace([]hardening.File{valued("a", value), valued("d/b", value)}); changed {
				rotations++
			}
		}
		e, ok := errors.AsType[*hardening.LimitError](err)
		if !ok || e.Field != "volume inodes" || rotations < 10 {
			t.Errorf("%d rotations, then %v, want some and a LimitError of the inodes", rotations, err)
		}
		current, err := os.Readlink(dir + "/..data")
		check(t, "readlink", err)
		assertNoLeftovers(t, dir, current)
		assertContent(t, dir+"/d/b", fmt.Sprint("v", rotations))
		for _, f := range held {
			check(t, "close", f.Close())
		}
		if changed, err := v.Replace([]hardening.File{valued("a", "after")}); !changed || err != nil {
			t.Errorf("Replace() with nothing held = %v, %v, want true, nil", changed, err)
		}
	})
}

// TestNoInodesLeaveTheOld: a privileged container takes the last inode while
// the driver works, and what was begun is removed.
func TestNoInodesLeaveTheOld(t *testing.T) {
	const attempts = 50_000
	eachProtection(t, func(t *testing.T, n *node) {
		v, _, dir := n.publish(t, "vol", hardening.Limits{Bytes: 1 << 20, Inodes: 8}, valued("a", "v0"), valued("d/b", "v0"))
		evil := privileged(t, dir)
		check(t, "tighten", unix.Mount("", evil, "", unix.MS_REMOUNT, "nr_inodes=30"))
		// It takes what there is, then leaves as much as a rotation needs.
		stop := attack(t, evil, func(evil string, i int) error {
			err := os.Mkdir(fmt.Sprintf("%s/..evil%d", evil, i), 0o700)
			if err != nil {
				left, _ := filepath.Glob(evil + "/..evil*")
				for _, dir := range left {
					_ = os.Remove(dir)
				}
				time.Sleep(50 * time.Microsecond)
			}
			return err
		})
		full, want := 0, "v0"
		for i := 1; i <= attempts && full < 5; i++ {
			value := fmt.Sprint("v", i)
			changed, err := v.Replace([]hardening.File{valued("a", value), valued("d/b", value)})
			if changed {
				want = value
			} else if errors.Is(err, unix.ENOSPC) {
				full++
			}
			if left, err := filepath.Glob(dir + "/..2*"); err != nil || len(left) != 1 {
				t.Errorf("generations after Replace() = %q, %v, want one", left, err)
			}
			assertContent(t, dir+"/d/b", want)
			assertContent(t, dir+"/a", want)
		}
		if hits := stop(); hits == 0 || full < 5 {
			t.Errorf("%d attacks, %d rotations met a full volume, want some and at least 5", hits, full)
		}
		check(t, "raise", unix.Mount("", evil, "", unix.MS_REMOUNT, "nr_inodes=100"))
		if changed, err := v.Replace([]hardening.File{valued("a", "after")}); !changed || err != nil {
			t.Errorf("Replace() after the attack = %v, %v, want true, nil", changed, err)
		}
		current, err := os.Readlink(dir + "/..data")
		check(t, "readlink", err)
		assertNoLeftovers(t, dir, current)
	})
}

func TestSizeShrinksWithoutARotation(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		v, _, dir := n.publish(t, "vol", anyone, pages(3))
		v.Allow(3*page, hardening.UpTo(100*page))
		held, err := os.Open(dir + "/a")
		check(t, "open", err)
		second := []hardening.File{sizedFile("a", 3*page-1)}
		if changed, err := v.Replace(second); !changed || err != nil {
			t.Fatalf("Replace() = %v, %v, want true, nil", changed, err)
		}
		assertSize(t, v, 3+3+3+1)
		check(t, "close", held.Close())
		if changed, err := v.Replace(second); changed || err != nil {
			t.Fatalf("Replace() with the same = %v, %v, want false, nil", changed, err)
		}
		assertSize(t, v, 3+3+1)
	})
}

func TestNoSpaceLeavesTheOld(t *testing.T) {
	// A privileged container raises size= and fills the volume outright.
	eachProtection(t, func(t *testing.T, n *node) {
		v, _, dir := n.publish(t, "vol", anyone, valued("a", "v1"))
		v.Allow(8*page, hardening.UpTo(17*page))
		evil := privileged(t, dir)
		check(t, "raise", unix.Mount("", evil, "", unix.MS_REMOUNT, "size=1m"))
		check(t, "fill up", os.WriteFile(evil+"/evil", make([]byte, 255*page), 0o600))
		changed, err := v.Replace([]hardening.File{pages(8)})
		if _, ok := errors.AsType[*hardening.LimitError](err); changed || !ok {
			t.Errorf("Replace() = %v, %v, want false and a LimitError", changed, err)
		}
		assertContent(t, dir+"/a", "v1")
		check(t, "remove", os.Remove(evil+"/evil"))
		if changed, err := v.Replace([]hardening.File{valued("a", "v2")}); !changed || err != nil {
			t.Errorf("Replace() = %v, %v, want true, nil", changed, err)
		}
		assertContent(t, dir+"/a", "v2")
		assertSize(t, v, 3)
	})
}
