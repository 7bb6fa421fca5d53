package hardening_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// These tests run the whole life of a volume against somebody who has the
// kubelet's directory and changes it all the while: a container with that
// hostPath. Whatever it does, nothing may happen where its links lead, no pod's
// volume may be written with the secrets of another, every call ends, and once
// it stops, the next unpublish leaves nothing.

// race is one target and what is done to the path that leads to it.
type race struct {
	*node
	path *hardeningtest.Path
	view int // what a container of the other pod has: a mount of its volume that nobody unmounts
}

// trick is what an attacker does, and where it stands.
type trick struct {
	name  string
	enter func() error
	step  func(i int)
}

func (r *race) trick(how hardeningtest.Trick) trick {
	return trick{how.Name, hardeningtest.Container(r.root), func(i int) { how.Step(r.path, i) }}
}

// toll counts what the operations met.
type toll struct {
	met, unseen int // refused; or done although something changed meanwhile
	odd         map[string]int
	wrong       []string
}

// note sorts an error: what a changed path explains is a collision, anything
// else a failure of the test.
func (c *toll) note(what string, err error) {
	for _, known := range []error{
		fs.ErrNotExist, hardening.ErrNotDirectory, hardening.ErrChanging, hardening.ErrMounted, hardening.ErrOccupied, hardening.ErrNotOurs,
	} {
		if errors.Is(err, known) {
			c.met++
			return
		}
	}
	if _, ok := errors.AsType[*hardening.ScrubError](err); ok {
		c.met++
		return
	}
	if err != nil {
		c.odd[what+": "+err.Error()]++
	}
}

// life is one volume from publish to unpublish, with a rotation.
func (r *race) life(c *toll, i int) {
	target, err := r.sys.Target(podUID, "vol")
	c.note("Target", err)
	if err != nil {
		return
	}
	defer func() { _ = target.Close() }()
	c.note("Prepare", target.Prepare())
	_, err = target.State()
	c.note("State", err)
	_, err = target.ScrubPlain()
	c.note("ScrubPlain", err)
	v, err := r.sys.NewVolume(anyone)
	c.note("NewVolume", err)
	c.note("Fill", v.Fill([]hardening.File{valued("a", fmt.Sprintf("A%d", i))}))
	err = v.Attach(target)
	c.note("Attach", errors.Join(err, v.Close()))
	// A republish does not know how the last call ended.
	r.rotate(c, target, fmt.Sprintf("A%d again", i))
	if err != nil {
		c.note("Discard", target.Discard())
	}
	_, err = target.Detach()
	c.note("Detach", err)
}

// rotate writes into the volume at a target, if it is that target's.
func (r *race) rotate(c *toll, target *hardening.Target, value string) (changed bool) {
	v, err := target.OpenVolume()
	c.note("OpenVolume", err)
	if err != nil {
		return false
	}
	v.Allow(1<<20, hardening.UpTo(4<<20))
	changed, err = v.Replace([]hardening.File{valued("a", value)})
	c.note("Replace", errors.Join(err, v.Close()))
	return changed
}

// neighbour keeps the other pod's volume. Its container must see nothing but
// its own, also when the unpublish of another takes the mount of its volume off.
func (r *race) neighbour(c *toll) {
	r.look(c)
	target, err := r.sys.Target(otherUID, "vol")
	if err != nil {
		return
	}
	defer func() { _ = target.Close() }()
	quiet := toll{odd: c.odd}
	if r.rotate(&quiet, target, "B") {
		c.wrong = append(c.wrong, "the volume at another pod's target did not hold what that pod has")
	}
	v, err := r.sys.NewVolume(anyone)
	c.note("NewVolume", err)
	c.note("Fill", v.Fill([]hardening.File{valued("a", "B")}))
	quiet.note("Prepare", target.Prepare())
	err = v.Attach(target)
	quiet.note("Attach", errors.Join(err, v.Close()))
	if err == nil {
		r.enter(target)
	}
}

// enter gives the container a view of the volume that was just attached.
func (r *race) enter(target *hardening.Target) {
	v, err := target.OpenVolume()
	if err != nil {
		return // moved since
	}
	defer func() { _ = v.Close() }()
	view, err := hardening.ViewOf(v)
	if err != nil {
		return
	}
	r.leave()
	r.view = view
}

func (r *race) leave() { _ = unix.Close(r.view) }

func (r *race) look(c *toll) {
	if r.view < 0 {
		return
	}
	got, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d/a", r.view))
	if err != nil || string(got) != "B" {
		c.wrong = append(c.wrong, fmt.Sprintf("the container of another pod reads %q, %v", got, err))
	}
}

func newRace(t *testing.T, n *node, level int) *race {
	t.Helper()
	dir := hardeningtest.VolumeDir(t, n.root, podUID, "vol")
	otherDir := hardeningtest.VolumeDir(t, n.root, otherUID, "vol")
	r := &race{node: n, path: hardeningtest.NewPath(t, dir, otherDir, level), view: -1}
	t.Cleanup(r.leave)
	return r
}

// run lets the volume live until it collided often enough, and then comes to
// rest.
func (r *race) run(t *testing.T, how trick, lives, collisions int) {
	t.Helper()
	before := hardeningtest.Fingerprint(t, r.path.Victim)
	attack := hardeningtest.StartAttack(t, how.enter, how.step)
	c := &toll{odd: map[string]int{}}
	within(t, 10*patience+time.Duration(lives)*100*time.Millisecond, how.name, func() {
		for i := 0; i < lives || min(c.met, c.unseen) < collisions && i < 20*lives; i++ {
			began, met := attack.Hits(), c.met
			r.life(c, i)
			r.neighbour(c)
			if attack.Hits() > began && c.met == met {
				c.unseen++
			}
			if points := hardeningtest.MountsBelow(t, r.path.Victim); len(points) > 0 {
				c.wrong = append(c.wrong, "something is mounted where a link leads: "+strings.Join(points, " "))
			}
		}
	})
	attack.Stop()
	t.Logf("%d tricks, %d refused, %d unseen", attack.Hits()/2, c.met, c.unseen)
	if c.met < collisions || c.unseen < collisions {
		t.Errorf("%d refused and %d unseen, want at least %d each: no race, no proof", c.met, c.unseen, collisions)
	}
	if len(c.wrong) > 0 || len(c.odd) > 0 {
		t.Errorf("wrong: %q, unexplained errors: %v", c.wrong, c.odd)
	}
	if diff := cmp.Diff(before, hardeningtest.Fingerprint(t, r.path.Victim)); diff != "" {
		t.Errorf("where the links lead (-before +after):\n%s", diff)
	}
	r.rest(t)
	assertContent(t, r.path.Linked, "keep")
	var st unix.Stat_t
	if err := unix.Stat(r.path.Linked, &st); err != nil || st.Mode&0o7777 != 0o644 || st.Uid != 0 || st.Nlink != 1 {
		t.Errorf("Stat(file that had second names) = %+v, %v, want mode 0644 of root and one name", st, err)
	}
}

// rest puts the path back as kubelet made it; then the next unpublish of each
// pod must leave nothing, wherever its volumes were moved.
func (r *race) rest(t *testing.T) {
	t.Helper()
	r.path.Restore()
	for _, uid := range []string{podUID, otherUID} {
		dir := filepath.Join(r.root, "pods", uid, "volumes/kubernetes.io~csi/vol")
		check(t, "make directory", os.MkdirAll(dir, 0o750))
		target, err := r.sys.Target(uid, "vol")
		check(t, "target", err)
		if _, err := target.Detach(); err != nil {
			t.Errorf("Detach() after the attack = %v, want nil", err)
		}
		assertState(t, target, hardening.StateAbsent)
		check(t, "close", target.Close())
	}
	if points := hardeningtest.MountsBelow(t, r.root); len(points) > 0 {
		t.Errorf("mounted after the unpublish: %q, want nothing", points)
	}
}

// levelVolume and levelMount are the last two directories of a target path.
const levelVolume, levelMount = 3, 4

func TestP8RaceForTheTarget(t *testing.T) {
	for _, how := range hardeningtest.Tricks() {
		for _, level := range []int{levelVolume, levelMount} {
			t.Run(how.Name+"/"+hardeningtest.Levels(podUID, "vol")[level], func(t *testing.T) {
				r := newRace(t, newNode(t, hardening.SettingMlock), level)
				r.run(t, r.trick(how), 40, 3)
			})
		}
	}
}

func (r *race) planting() trick {
	return trick{"planted", hardeningtest.Host, func(int) { hardeningtest.Plant(r.path, hardening.Marker) }}
}

func TestP8RaceWithPlants(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		r := newRace(t, n, levelMount)
		r.run(t, r.planting(), 40, 3)
	})
}
