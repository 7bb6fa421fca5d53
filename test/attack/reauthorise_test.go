//go:build attack

package attack_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/portcullis-csi/portcullis/test/plugintest"
)

// TestP9KillWhileReauthorising kills the plugin at the steps of a revocation of
// its own accord: nobody calls between the bundle and the end of the process. The
// next one, which does not know what kubelet asks, brings it to its end with
// kubelet's next calls, one of which is told.
func TestP9KillWhileReauthorising(t *testing.T) {
	t.Parallel()
	r := &revoking{killing: *newKilling(t, "noswap")}
	r.flags = append(r.flags, "--policy-poll-interval=200ms")
	r.serve(firstSecrets())
	r.class("db", slices.Sorted(maps.Keys(firstSecrets()))...)
	for i, at := range []passing{
		{"deny/noted", 1}, {"deny/noted", 2}, {"revoke/allowed", 1}, {"revoke/emptied", 1}, {"revoke/event-owed", 1}, {"revoke/remembered", 1},
	} {
		r.t.Logf("killed at %s", at)
		r.pod = r.node.pod(fmt.Sprintf("api-%d", i), i, "db")
		r.ensure()
		r.publishFirst()
		r.arm(at)
		r.grant(false)
		if err := r.plugin.AwaitEnd(); err != nil {
			t.Fatal(err)
		}
		if last := r.passed(); !r.plugin.Killed() || len(last) == 0 || last[len(last)-1] != at {
			t.Fatalf("the plugin ended with %v, having passed %v", r.plugin.Cmd.ProcessState, last)
		}
		r.plugin = nil
		r.arm(passing{})
		r.ensure()
		r.expectTold()
		r.expectEvents([]pod{r.pod})
		r.grant(true)
		r.expectFirstAgain()
		if err := r.plugin.unpublish(r.pod); err != nil {
			t.Fatalf("NodeUnpublishVolume() = %v, want nil", err)
		}
	}
	r.plugin.Stop()
	r.auditVerify()
}

// TestP9KillThenGrantAgain kills the plugin at the steps of a revocation, and has the
// grant back before the next one starts: what was emptied comes back and is in the
// log as revoked, also where the plugin died before volumes.db knew, and what was
// not emptied was never gone.
func TestP9KillThenGrantAgain(t *testing.T) {
	t.Parallel()
	r := &revoking{killing: *newKilling(t, "noswap")}
	r.flags = append(r.flags, "--policy-poll-interval=200ms")
	r.serve(firstSecrets())
	r.class("db", slices.Sorted(maps.Keys(firstSecrets()))...)
	cut := 0
	for i, at := range []passing{
		{"deny/noted", 1}, {"deny/noted", 2}, {"revoke/allowed", 1}, {"scrub/truncated", 1}, {"scrub/unlinked", 2},
		{"revoke/emptied", 1}, {"revoke/event-owed", 1}, {"revoke/remembered", 1},
	} {
		r.t.Logf("killed at %s", at)
		r.pod = r.node.pod(fmt.Sprintf("api-%d", i), i, "db")
		r.ensure()
		r.publishFirst()
		r.arm(at)
		r.grant(false)
		if err := r.plugin.AwaitEnd(); err != nil {
			t.Fatal(err)
		}
		if last := r.passed(); !r.plugin.Killed() || len(last) == 0 || last[len(last)-1] != at {
			t.Fatalf("the plugin ended with %v, having passed %v", r.plugin.Cmd.ProcessState, last)
		}
		r.plugin = nil
		found, err := generation(r.pod.target)
		whole := err == nil && cmp.Diff(described(firstSecrets()), found) == ""
		if untouched := strings.HasPrefix(at.name, "deny/") || at.name == "revoke/allowed"; whole != untouched {
			t.Fatalf("killed at %s the content is whole: %t, want %t", at, whole, untouched)
		}
		r.grant(true)
		r.arm(passing{})
		r.ensure()
		if whole {
			r.expectContent()
			r.publishFirst()
		} else {
			cut++
			r.expectFirstAgain()
			r.expectEvents([]pod{r.pod})
		}
		if err := r.plugin.unpublish(r.pod); err != nil {
			t.Fatalf("NodeUnpublishVolume() = %v, want nil", err)
		}
	}
	r.plugin.Stop()
	r.auditVerify()
	if cut != 5 {
		t.Errorf("%d revocations were cut off, want 5: the test is broken", cut)
	}
}

// expectTold republishes until the volume is empty and kubelet was told so.
func (r *revoking) expectTold() {
	r.t.Helper()
	told := 0
	plugintest.Eventually(r.t, "revocation", func() error {
		if err := r.plugin.publish(r.pod); status.Code(err) == codes.Unavailable {
			told++
		} else if err != nil {
			return err
		}
		names, err := os.ReadDir(r.pod.target)
		if err != nil || len(names) > 0 || told == 0 {
			return fmt.Errorf("the volume holds %v (%w), kubelet was told %d times", names, err, told)
		}
		return nil
	})
	if told != 1 {
		r.t.Errorf("kubelet was told %d times, want once", told)
	}
}
