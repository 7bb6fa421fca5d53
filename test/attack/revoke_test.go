//go:build attack

package attack_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/test/plugintest"
)

// TestP9KillWhileRevoking kills the plugin at every step of a revocation, under
// both swap protections. The next one brings it to its end: the volume is empty
// and still mounted, the log says so, and with the grant back the content is.
func TestP9KillWhileRevoking(t *testing.T) {
	t.Run("each", func(t *testing.T) {
		for _, protection := range []string{"noswap", "mlock"} {
			t.Run(protection, func(t *testing.T) {
				t.Parallel()
				newRevoking(t, protection).killEverywhere()
			})
		}
	})
}

// revoking is a node whose pods have lost their grant. All are denied once, and
// ten seconds later each is revoked by a plugin that dies in another place.
type revoking struct {
	killing
	pods []pod
}

// ofRevocation reports whether a fault point is passed in revocations alone.
func ofRevocation(name string) bool {
	return strings.HasPrefix(name, "deny/") || strings.HasPrefix(name, "revoke/")
}

// confirmAfter is the driver's time between two denials.
const confirmAfter = 10 * time.Second

// revokingPods are more than there are steps.
const revokingPods = 40

func newRevoking(t *testing.T, protection string) *revoking {
	t.Helper()
	r := &revoking{killing: *newKilling(t, protection)}
	r.serve(firstSecrets())
	r.class("db", slices.Sorted(maps.Keys(firstSecrets()))...)
	for i := range revokingPods {
		r.pods = append(r.pods, r.node.pod(fmt.Sprintf("api-%d", i), i, "db"))
	}
	r.ensure()
	r.each(r.publishFirst)
	r.plugin.Stop()
	r.plugin = nil
	r.grant(false)
	r.ensure()
	r.each(r.publishFirst) // denied, for the first time
	r.plugin.Stop()        // which writes volumes.db
	r.plugin = nil
	// The first call of each later process is the second evaluation: the driver's
	// own timer would make it at the same time, without that call.
	time.Sleep(confirmAfter)
	return r
}

// publishFirst publishes and finds the content, beside the other volumes.
func (r *revoking) publishFirst() {
	r.t.Helper()
	r.mustPublish()
	r.expectContent()
}

func (r *revoking) expectContent() {
	r.t.Helper()
	found, err := generation(r.pod.target)
	if err != nil {
		r.t.Fatal(err)
	}
	if diff := cmp.Diff(described(firstSecrets()), found); diff != "" {
		r.t.Fatalf("content below ..data (-want +got):\n%s", diff)
	}
}

func (r *revoking) each(f func()) {
	r.t.Helper()
	for _, p := range r.pods {
		r.pod = p
		f()
	}
}

// grant gives the account its grant, or takes it away; all of the node may be
// revoked then.
func (r *revoking) grant(given bool) {
	r.t.Helper()
	grants := "[]\n"
	if given {
		grants = string(r.read("grants.kept"))
	} else {
		r.write("grants.kept", string(r.read("policy/portcullis/grants/grants.yaml")))
	}
	r.write("policy/portcullis/grants/grants.yaml", grants)
	r.write("policy/portcullis/config/data.yaml", "mass_revoke: true\n")
}

// publishUntilKilled calls as kubelet does: a denial is confirmed ten seconds
// after the first one of that pod, which was a little later than of the others.
func (r *revoking) publishUntilKilled() {
	for range 100 {
		if err := r.plugin.publish(r.pod); err != nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (r *revoking) killEverywhere() {
	r.t.Helper()
	steps := r.steps()
	for i, at := range steps {
		r.pod = r.pods[i+1]
		r.t.Logf("killed at %s", at)
		r.ensure()
		r.arm(at)
		r.publishUntilKilled()
		if err := r.plugin.AwaitEnd(); err != nil {
			r.t.Fatal(err)
		}
		if last := r.passed(); !r.plugin.Killed() || len(last) == 0 || last[len(last)-1] != at {
			r.t.Fatalf("the plugin ended with %v, having passed %v", r.plugin.Cmd.ProcessState, last)
		}
		r.plugin = nil
		r.arm(passing{})
		r.ensure()
		r.expectRevoked()
		// What is owed is lost with a second kill some milliseconds later.
		r.expectEvents([]pod{r.pod})
	}
	if len(steps) < 10 || len(steps) >= revokingPods {
		r.t.Errorf("a revocation has %d steps, want at least 10 and fewer than %d", len(steps), revokingPods)
	}
	for name, file := range pointsInSource(r.t) {
		if ofRevocation(name) && !slices.ContainsFunc(steps, func(p passing) bool { return p.name == name }) {
			r.t.Errorf("fault point %q of %s is not reached", name, file)
		}
	}
	revoked := r.pods[:len(steps)+1]
	r.expectEvents(revoked)
	r.plugin.Stop()
	r.plugin = nil
	r.grant(true)
	r.ensure()
	for _, p := range revoked {
		r.pod = p
		r.expectFirstAgain()
		if err := r.plugin.unpublish(r.pod); err != nil {
			r.t.Fatalf("NodeUnpublishVolume() = %v, want nil", err)
		}
	}
	r.plugin.Stop()
	r.auditVerify()
}

// steps plays one revocation to its end, and lists what it passes once it has
// been decided on.
func (r *revoking) steps() []passing {
	r.t.Helper()
	r.pod = r.pods[0]
	r.ensure()
	plugintest.Eventually(r.t, "second evaluation", func() error {
		r.arm(passing{})
		err := r.plugin.publish(r.pod)
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "were revoked") {
			return fmt.Errorf("NodePublishVolume() = %w, want that the content was revoked", err)
		}
		return nil
	})
	list := r.passed()
	begin := slices.IndexFunc(list, func(p passing) bool { return p.name == "deny/noted" })
	if begin < 0 {
		r.t.Fatalf("a revocation passes %v, want deny/noted among it", list)
	}
	r.expectRevoked()
	// What is written behind the calls is for the matrix of the other calls.
	return slices.DeleteFunc(list[begin:], func(p passing) bool { return strings.HasPrefix(p.name, "records/") })
}

// expectRevoked republishes, as kubelet does, until the volume is empty.
func (r *revoking) expectRevoked() {
	r.t.Helper()
	plugintest.Eventually(r.t, "revocation", func() error {
		if err := r.plugin.publish(r.pod); err != nil && status.Code(err) != codes.Unavailable {
			return err
		}
		names, err := os.ReadDir(r.pod.target)
		if err != nil || len(names) > 0 {
			return fmt.Errorf("the volume holds %v (%w)", names, err)
		}
		return nil
	})
	if !slices.Contains(r.mounts(), r.pod.target) {
		r.t.Fatal("the volume is not mounted any more")
	}
}

func (r *revoking) expectFirstAgain() {
	r.t.Helper()
	plugintest.Eventually(r.t, "content after the grant came back", func() error {
		if err := r.plugin.publish(r.pod); err != nil {
			return err
		}
		names, err := os.ReadDir(r.pod.target)
		if err != nil || len(names) == 0 {
			return fmt.Errorf("the volume is empty (%w)", err)
		}
		return nil
	})
	r.expectContent()
}

// expectEvents waits until the log tells of each revocation. Kubelet goes on
// calling meanwhile: a volume that was found empty may have been decided on once
// only by the plugin that found it so.
func (r *revoking) expectEvents(pods []pod) {
	r.t.Helper()
	plugintest.Eventually(r.t, "revocations in the log", func() error {
		events, err := r.eventsNow()
		if err != nil {
			return err
		}
		told := map[string]bool{}
		for _, e := range events {
			if e.Type == audit.TypeRevoke && e.Outcome == audit.OutcomeSuccess {
				told[e.Workload.PodUID] = true
			}
		}
		for _, p := range pods {
			if !told[p.uid] {
				err := r.plugin.publish(p)
				return fmt.Errorf("no event of the revocation of pod %s, whose last publish was %w", p.uid, err)
			}
		}
		return nil
	})
}
