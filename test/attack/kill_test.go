//go:build attack

package attack_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
	"github.com/portcullis-csi/portcullis/test/plugintest"
)

// Two generations of one volume: the second has other bytes, a name less and a
// name more.
func firstSecrets() map[string]string {
	return map[string]string{"password": strings.Repeat("first password ", 700), "tls/key": "first key"}
}

func secondSecrets() map[string]string {
	return map[string]string{"password": "second password", "user": strings.Repeat("second user ", 900)}
}

// killing is the state of one round of the matrix: one volume, and one death.
type killing struct {
	faultNode
	plugin *plugin
	pod    pod
	next   int // number of the next pod
	trace  map[string]bool

	protection string
	locked     int // files that were seen to be
}

// story is a call to the plugin, and what must hold if it dies in the middle.
type story struct {
	name string
	// prepare brings the volume to where the call finds it.
	prepare func(k *killing)
	// act is the call. The plugin may be dead afterwards.
	act func(k *killing)
	// dead checks what is left behind by a plugin that died.
	dead func(k *killing)
	// retry is what kubelet does with the next plugin; everything is in order
	// after it.
	retry func(k *killing)
	// tells checks what the log says of the pod in the end.
	tells func(h history, d death) error
}

// death is what a plugin left when it died.
type death struct {
	mounted bool
	intents int // about the pod, in the log
}

func stories() []story {
	return []story{
		{name: "publish", prepare: func(*killing) {}, act: (*killing).publish, dead: (*killing).nothingOrFirst, retry: (*killing).expectFirst, tells: endsAsMounted},
		{name: "republish", prepare: (*killing).prepareRotation, act: (*killing).publish, dead: (*killing).firstOrSecond, retry: (*killing).expectSecond, tells: rotated},
		{name: "unpublish", prepare: (*killing).prepareMount, act: (*killing).unpublish, dead: (*killing).atMostOneMount, retry: (*killing).expectUnpublished, tells: unmounted},
		// Without the provider the new content may not come, but the old one stays.
		{name: "republish without the provider", prepare: (*killing).prepareRotation, act: (*killing).publish, dead: (*killing).firstOrSecond, retry: (*killing).republishAlone, tells: silent},
		// Kubelet forgets that it was unmounting when it is started again itself.
		{name: "unpublish and publish", prepare: (*killing).expectFirst, act: (*killing).unpublish, dead: (*killing).atMostOneMount, retry: (*killing).expectFirst, tells: silent},
		// The plugin dies after the attach, and again while it starts.
		{name: "start", prepare: (*killing).interrupt, act: (*killing).restart, dead: (*killing).nothingOrFirst, retry: (*killing).expectFirst, tells: endsAsMounted},
	}
}

// TestP4KillAtEveryStep kills the plugin at every step of publish, republish,
// unpublish and start, under both swap protections, and starts it again. At any
// time a pod sees nothing or one complete generation; what kubelet does next
// brings everything in order, with nothing left over; the log verifies, and each
// delivery in it has exactly one end.
//
// The steps are the fault points that the plugin passes when nobody kills it,
// so none can be forgotten here; one that is in the source and in no story fails
// the test.
func TestP4KillAtEveryStep(t *testing.T) {
	var mu sync.Mutex
	reached, kills, played := map[string]bool{}, 0, 0
	t.Run("each", func(t *testing.T) {
		for _, protection := range []string{"noswap", "mlock"} {
			for _, s := range stories() {
				t.Run(protection+"/"+s.name, func(t *testing.T) {
					t.Parallel()
					k := newKilling(t, protection)
					n := k.killEverywhere(s)
					mu.Lock()
					defer mu.Unlock()
					kills += n
					played++
					maps.Copy(reached, k.trace)
				})
			}
		}
	})
	if t.Failed() || played < 2*len(stories()) {
		return // it failed already, or -run named one of them
	}
	points := pointsInSource(t)
	for name, file := range points {
		if !reached[name] && !ofRevocation(name) {
			t.Errorf("fault point %q of %s is reached by no story: nobody knows what a crash does there", name, file)
		}
	}
	t.Logf("%d kills at %d fault points", kills, len(points))
	if kills < 250 {
		t.Errorf("%d kills, want at least 250", kills)
	}
}

func newKilling(t *testing.T, protection string) *killing {
	t.Helper()
	if protection == "noswap" {
		hardeningtest.NeedKernel(t, 6, 4, "tmpfs noswap")
	}
	k := &killing{
		// Each generation fills a volume of the largest size.
		faultNode: newFaultNode(t, "--swap-protection="+protection, "--enable-secret-rotation", "--rotation-poll-interval=1ns", "--max-volume-bytes=16384"),
		trace:     map[string]bool{}, protection: protection,
	}
	k.arm(passing{})
	return k
}

// killEverywhere plays a story once to the end, and then once for each passing
// of a fault point in it. It returns how often the plugin was killed.
func (k *killing) killEverywhere(s story) (kills int) {
	for _, at := range k.passings(s) {
		k.t.Logf("killed at %s", at)
		k.begin(s)
		k.die(s, at)
		kills++
		k.converge(s)
	}
	k.plugin.Stop()
	k.events()
	k.auditVerify()
	if k.protection == "mlock" && k.locked == 0 {
		k.t.Error("no locked file was seen: the search does not find them")
	}
	return kills
}

// passings plays the story to its end, and lists what it passes. What is
// written behind the calls is passed by the stop at the latest; of that the first
// time is enough, since the second only is if a call took long.
func (k *killing) passings(s story) []passing {
	k.t.Helper()
	k.begin(s)
	k.arm(passing{})
	s.act(k)
	k.plugin.Stop()
	list := k.passed()
	for _, p := range list {
		k.trace[p.name] = true
	}
	k.plugin = nil
	k.converge(s)
	return slices.DeleteFunc(list, func(p passing) bool { return strings.HasPrefix(p.name, "records/") && p.n > 1 })
}

// begin makes a new pod and prepares the story.
func (k *killing) begin(s story) {
	k.t.Helper()
	k.next++
	k.serve(firstSecrets())
	k.class("db", slices.Sorted(maps.Keys(firstSecrets()))...)
	k.pod = k.node.pod("api-0", k.next, "db")
	k.arm(passing{})
	k.ensure()
	s.prepare(k)
}

// ensure starts the plugin if it does not run.
func (k *killing) ensure() {
	k.t.Helper()
	if k.plugin == nil {
		k.plugin = k.start()
	}
}

// die plays the story until the plugin dies at a passing.
func (k *killing) die(s story, at passing) {
	k.t.Helper()
	k.arm(at)
	s.act(k)
	if err := k.plugin.AwaitEnd(); err != nil {
		k.t.Fatal(err)
	}
	if last := k.passed(); !k.plugin.Killed() || len(last) == 0 || last[len(last)-1] != at {
		k.t.Fatalf("the plugin ended with %v, having passed %v", k.plugin.Cmd.ProcessState, last)
	}
	k.plugin = nil
}

// converge checks what the dead plugin left, and that the next one brings it in
// order.
func (k *killing) converge(s story) {
	k.t.Helper()
	s.dead(k)
	h := historyOf(k.events())
	if err := h.check(k.pod.uid); err != nil {
		k.t.Fatal(err)
	}
	d := death{len(k.mounts()) > 0, len(h.of(k.pod).intents)}
	if d.mounted && d.intents == 0 {
		k.t.Fatal("a volume is mounted, and no decision about it is in the log")
	}
	k.arm(passing{})
	k.ensure()
	if text := k.plugin.Stderr(); strings.Contains(text, "not readable") {
		k.t.Fatalf("volumes.db is damaged:\n%s", text)
	}
	k.expectLocked()
	s.retry(k)
	k.expectLocked()
	plugintest.Eventually(k.t, "log after the restart", func() error {
		events, err := k.eventsNow()
		if err != nil {
			return err
		}
		h := historyOf(events)
		if err := h.check(""); err != nil {
			return err
		}
		return s.tells(h.of(k.pod), d)
	})
	k.expectUnpublished()
	k.nothingLeftOver()
}

// expectLocked checks, under mlock, that the plugin has locked every page that
// is in a volume: the mappings of the one before are gone.
func (k *killing) expectLocked() {
	k.t.Helper()
	if k.protection != "mlock" {
		return
	}
	locked := k.plugin.locked()
	for _, target := range k.mounts() {
		for _, file := range filesWithContent(k.t, target) {
			if !locked[file] {
				k.t.Fatalf("a file of the volume is not locked: %s (device, inode)", file)
			}
			k.locked++
		}
	}
}

// nothingLeftOver looks at what is beside the volumes.
func (k *killing) nothingLeftOver() {
	k.t.Helper()
	for _, name := range entries(k.t, k.path("state")) {
		if !slices.Contains([]string{"admin.sock", "audit", "audit-inputs", "volumes.db", "volumes.db.next"}, name) {
			k.t.Fatalf("state directory holds %q", name)
		}
	}
}

func (k *killing) publish()   { _ = k.plugin.publish(k.pod) }
func (k *killing) unpublish() { _ = k.plugin.unpublish(k.pod) }

func (k *killing) mustPublish() {
	k.t.Helper()
	if err := k.plugin.publish(k.pod); err != nil {
		k.t.Fatalf("NodePublishVolume() = %v, want nil", err)
	}
}

func (k *killing) expectFirst() {
	k.t.Helper()
	k.mustPublish()
	k.expectVolume(k.pod, firstSecrets())
}

func (k *killing) expectSecond() {
	k.t.Helper()
	k.mustPublish()
	k.expectVolume(k.pod, secondSecrets())
}

func (k *killing) republishAlone() {
	k.t.Helper()
	k.serve(nil)
	k.mustPublish()
	k.firstOrSecond()
}

func (k *killing) expectUnpublished() {
	k.t.Helper()
	if err := k.plugin.unpublish(k.pod); err != nil {
		k.t.Fatalf("NodeUnpublishVolume() = %v, want nil", err)
	}
	k.expectGone(k.pod)
}

// prepareMount mounts the first generation, and waits until that is on the
// plugin's record, which follows the calls.
func (k *killing) prepareMount() {
	k.t.Helper()
	k.expectFirst()
	plugintest.Eventually(k.t, "volumes.db", func() error {
		text, err := os.ReadFile(k.path("state/volumes.db"))
		if err == nil && !strings.Contains(string(text), k.pod.uid) {
			err = errors.New("the volume is not in it")
		}
		return err
	})
}

// prepareRotation mounts the first generation and makes the second one known.
func (k *killing) prepareRotation() {
	k.t.Helper()
	k.prepareMount()
	k.serve(secondSecrets())
	k.class("db", slices.Sorted(maps.Keys(secondSecrets()))...)
}

// interrupt lets the plugin die between the attach and the reply.
func (k *killing) interrupt() {
	k.t.Helper()
	k.arm(passing{"deliver/attached", 1})
	k.publish()
	if err := k.plugin.AwaitEnd(); err != nil {
		k.t.Fatal(err)
	}
	k.plugin = nil
}

// restart starts a plugin that may die on the way.
func (k *killing) restart() {
	k.t.Helper()
	k.plugin = k.launch()
	select {
	case <-k.plugin.Serving:
	case <-k.plugin.Ended:
	}
}

// nothingOrFirst is what a pod may see of a publish.
func (k *killing) nothingOrFirst() {
	k.t.Helper()
	if len(k.mounts()) > 0 {
		k.expectVolume(k.pod, firstSecrets())
		return
	}
	if got := entries(k.t, k.pod.target); len(got) != 0 {
		k.t.Fatalf("nothing is mounted, and the directory holds %q", got)
	}
}

// firstOrSecond is what a pod may see of a rotation.
func (k *killing) firstOrSecond() {
	k.t.Helper()
	k.atMostOneMount()
	k.expectSealed(k.pod)
	found, err := generation(k.pod.target)
	if err != nil {
		k.t.Fatal(err)
	}
	first, second := cmp.Diff(described(firstSecrets()), found), cmp.Diff(described(secondSecrets()), found)
	if first != "" && second != "" {
		k.t.Fatalf("content below ..data is neither the first generation (-want +got):\n%snor the second:\n%s", first, second)
	}
}

func (k *killing) atMostOneMount() {
	k.t.Helper()
	if got := k.mounts(); len(got) > 1 || len(got) == 1 && got[0] != k.pod.target {
		k.t.Fatalf("mounts of the node = %q, want at most one, at %q", got, k.pod.target)
	}
}

// endsAsMounted: the delivery that was cut off ends as the mount table has it.
func endsAsMounted(h history, d death) error {
	if d.intents == 0 {
		return nil
	}
	end := h.ends[h.intents[0].ID][0].Reason
	if recovered := end == audit.ReasonRecovered || end == ""; recovered != d.mounted || !recovered && end != audit.ReasonAbandoned {
		return fmt.Errorf("the delivery ends as %q, and the volume was mounted: %t", end, d.mounted)
	}
	return nil
}

func rotated(h history, _ death) error { return h.mustHave(audit.TypeRotate) }

func unmounted(h history, _ death) error { return h.mustHave(audit.TypeUnmount) }

func silent(history, death) error { return nil }
