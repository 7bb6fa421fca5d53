package driver_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// These tests are the kubelet of two pods while somebody who has its directory
// in a container changes it all the while. A container must never see anything
// but its own pod's secrets, nothing may happen where links lead, no mounted
// volume may get a final code, and once it is over, the next calls succeed and
// leave nothing.

func secondPod() pod {
	p := apiPod()
	p.name, p.uid = "api-1", "22222222-2222-4222-8222-222222222222"
	return p
}

// ownSecrets gives each pod a secret that begins with its name, another one
// each time.
func ownSecrets() providertest.Handler {
	var calls atomic.Int64
	return func(ctx context.Context, r *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
		var attributes map[string]string
		if err := json.Unmarshal([]byte(r.GetAttributes()), &attributes); err != nil {
			return nil, err
		}
		secret := fmt.Sprintf("%s has %d", attributes["csi.storage.k8s.io/pod.name"], calls.Add(1))
		return providertest.Files(map[string]string{"password": secret, "user": "app"})(ctx, r)
	}
}

func hasOwn(p pod, secret string) bool { return strings.HasPrefix(secret, p.name+" has ") }

// race is the kubelet of two pods, of which the first comes and goes.
type race struct {
	*node
	attack      *hardeningtest.Attack
	views       map[string]int // what each pod's container has: a mount of its volume that nobody unmounts
	met, unseen int            // calls that were refused; that succeeded while something changed
	wrong       []string
}

func newDriverRace(t *testing.T, change ...func(*setup)) *race {
	t.Helper()
	n := newNode(t, append(change, func(s *setup) { s.provider.Handler = ownSecrets() })...)
	n.add(secondPod())
	r := &race{node: n, views: map[string]int{}}
	t.Cleanup(func() {
		for _, fd := range r.views {
			_ = unix.Close(fd)
		}
	})
	return r
}

func (r *race) path(level int) *hardeningtest.Path {
	return hardeningtest.NewPath(r.t, r.target(apiPod()), r.target(secondPod()), level)
}

// undisturbed reports whether nothing has changed since then.
func (r *race) undisturbed(began int64) bool { return began%2 == 0 && r.attack.Hits() == began }

// sort counts what a call met, and checks its code. What a changed path
// explains is never final, but for a pod that kubelet has no directory for.
func (r *race) sort(what string, mounted bool, began int64, err error) {
	switch s := status.Convert(err); {
	case err == nil && r.undisturbed(began):
	case err == nil:
		r.unseen++
	case s.Code() == codes.Unavailable && strings.Contains(s.Message(), "; hint: "):
		r.met++
	case s.Code() == codes.InvalidArgument && !mounted && strings.Contains(s.Message(), "has no directory made by kubelet"):
		r.met++
	default:
		r.wrong = append(r.wrong, fmt.Sprintf("%s = %v", what, err))
	}
	if s := status.Convert(err); strings.Contains(s.Message(), "internal error") {
		r.wrong = append(r.wrong, what+" calls it an internal error; the log: "+lastLines(r.stderr.String()))
	}
}

// mount is kubelet's call. A container that starts right after it takes what is
// at the target, if nothing was changed in between.
func (r *race) mount(p pod) {
	_, mounted := r.records.Get(p.uid, volume)
	began := r.attack.Hits()
	err := r.publish(p)
	r.sort("NodePublishVolume("+p.name+")", mounted, began, err)
	if err != nil {
		return
	}
	view, openErr := unix.OpenTree(unix.AT_FDCWD, r.target(p), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if !r.undisturbed(began) {
		_ = unix.Close(view)
		return
	}
	if openErr != nil {
		r.wrong = append(r.wrong, fmt.Sprintf("nothing at the target of %s after an undisturbed publish: %v", p.name, openErr))
		return
	}
	r.leave(p)
	r.views[p.uid] = view
	r.look(p)
}

func (r *race) leave(p pod) {
	if view, ok := r.views[p.uid]; ok {
		_ = unix.Close(view)
		delete(r.views, p.uid)
	}
}

// look is a container that reads its secret.
func (r *race) look(p pod) {
	view, ok := r.views[p.uid]
	if !ok {
		return
	}
	if got, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d/password", view)); err != nil || !hasOwn(p, string(got)) {
		r.wrong = append(r.wrong, fmt.Sprintf("the container of %s reads %q, %v", p.name, got, err))
	}
}

// unmount is kubelet's call after the pod's containers have ended.
func (r *race) unmount(p pod) {
	r.leave(p)
	began := r.attack.Hits()
	r.sort("NodeUnpublishVolume("+p.name+")", false, began, r.unpublish(p))
}

// run lets the pods live until they have collided often enough.
func (r *race) run(enter func() error, step func(i int), victims []*hardeningtest.Path, lives, collisions int) {
	r.t.Helper()
	var before []map[string]string
	for _, v := range victims {
		before = append(before, hardeningtest.Fingerprint(r.t, v.Victim))
	}
	r.attack = hardeningtest.StartAttack(r.t, enter, step)
	for i := 0; i < lives || min(r.met, r.unseen) < collisions && i < 20*lives; i++ {
		r.mount(apiPod())
		r.mount(secondPod())
		r.clock.advance(2 * refreshInterval)
		r.mount(apiPod())
		r.mount(secondPod())
		r.look(apiPod())
		r.unmount(apiPod())
		r.look(secondPod())
		for _, v := range victims {
			if points := hardeningtest.MountsBelow(r.t, v.Victim); len(points) > 0 {
				r.wrong = append(r.wrong, fmt.Sprintf("mounted where a link leads: %q", points))
			}
		}
	}
	r.attack.Stop()
	r.t.Logf("%d tricks, %d calls refused, %d unseen", r.attack.Hits()/2, r.met, r.unseen)
	if r.met < collisions || r.unseen < collisions {
		r.t.Errorf("%d calls refused and %d unseen, want at least %d each: no race, no proof", r.met, r.unseen, collisions)
	}
	for _, w := range r.wrong {
		r.t.Error(w)
	}
	for i, v := range victims {
		if diff := cmp.Diff(before[i], hardeningtest.Fingerprint(r.t, v.Victim)); diff != "" {
			r.t.Errorf("where the links lead (-before +after):\n%s", diff)
		}
		v.Restore()
	}
	r.rest()
}

// rest is what follows the attack: kubelet's next calls succeed, and those
// after them leave nothing.
func (r *race) rest() {
	r.t.Helper()
	for _, p := range []pod{apiPod(), secondPod()} {
		r.leave(p)
		r.mustUnpublish(p)
		if err := os.MkdirAll(filepath.Dir(r.target(p)), 0o750); err != nil {
			r.t.Fatal(err)
		}
	}
	if points := hardeningtest.MountsBelow(r.t, r.root); len(points) > 0 {
		r.t.Errorf("mounted after the unpublish: %q, want nothing", points)
	}
	for _, p := range []pod{apiPod(), secondPod()} {
		r.mustPublish(p)
		if got := r.content(p)["password"]; !hasOwn(p, got) {
			r.t.Errorf("content of %s after the attack = %q, want its own", p.name, got)
		}
	}
	for _, p := range []pod{apiPod(), secondPod()} {
		r.mustUnpublish(p)
		if _, err := os.Lstat(r.target(p)); !errors.Is(err, os.ErrNotExist) {
			r.t.Errorf("Lstat(target of %s) = %v, want nothing", p.name, err)
		}
	}
	if points := hardeningtest.MountsBelow(r.t, r.root); len(points) > 0 {
		r.t.Errorf("mounted at the end: %q, want nothing", points)
	}
	if used := r.gauge("portcullis_volume_budget_used_bytes"); used != 0 {
		r.t.Errorf("budget in use at the end = %d, want 0", used)
	}
}

// accused reports whether the log blames the provider for what was not its doing.
func (r *race) accused() bool {
	for _, e := range r.recorded() {
		if e.Reason == audit.ReasonProviderWroteTarget {
			return true
		}
	}
	return false
}

// TestP8Race does every trick at every directory, at random.
func TestP8Race(t *testing.T) {
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		r := newDriverRace(t, protection)
		tricks := hardeningtest.Tricks()
		var paths []*hardeningtest.Path
		for level := range hardeningtest.Levels(apiUID, volume) {
			paths = append(paths, r.path(level))
		}
		step := func(i int) { tricks[rand.IntN(len(tricks))].Step(paths[rand.IntN(len(paths))], i) }
		r.run(hardeningtest.Container(r.root), step, paths, 30, 5)
		if r.accused() {
			t.Error("the log says that the provider wrote into the target")
		}
	})
}

func TestP8RaceOfPlants(t *testing.T) {
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		r := newDriverRace(t, protection)
		p := r.path(len(hardeningtest.Levels(apiUID, volume)) - 1)
		r.run(hardeningtest.Host, func(int) { hardeningtest.Plant(p, hardening.Marker) }, []*hardeningtest.Path{p}, 30, 5)
		if got, err := os.ReadFile(p.Linked); err != nil || string(got) != "keep" {
			t.Errorf("ReadFile(file that had second names) = %q, %v, want it untouched", got, err)
		}
	})
}

// lastLines is what a failure shows of the plugin's log.
func lastLines(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-4):], "\n")
}
