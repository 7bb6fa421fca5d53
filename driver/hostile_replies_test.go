//go:build !race

// One caller says a hundred things one after the other: nothing for the race
// detector, which takes some ten times as long. What is said at the same time has
// tests of its own.

package driver_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
)

// TestP5AHostileReplyLeavesNothing: nothing is mounted, nothing is taken from
// the budget, and nothing of what was said is anywhere.
func TestP5AHostileReplyLeavesNothing(t *testing.T) {
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		var s script
		n := newNode(t, protection, s.follow, boundedReplies)
		n.mustPublish(apiPod()) // opens the connection that stays
		n.mustUnpublish(apiPod())
		open := descriptors(t)
		rows := hostileReplies()
		for i, name := range slices.Sorted(maps.Keys(rows)) {
			row, p := rows[name], numbered(i)
			t.Run(name, func(t *testing.T) {
				n.add(p)
				s.set(p, row.answer)
				calls := len(n.provider.Calls())
				err := n.publish(p)
				expectStatus(t, err, row.code, "fetch from provider \"local\": ", row.says, "; hint: ")
				if got := len(n.provider.Calls()) - calls; got != 1 {
					t.Errorf("provider calls = %d, want 1", got)
				}
				n.expectNothing(p)
				n.expectEnd(p, 2, audit.TypeMount, row.reason)
				if _, known := n.records.Get(p.uid, volume); known {
					t.Error("a volume that was never mounted has a record")
				}
				n.checkSpill(err)
				n.remove(p)
			})
		}
		n.expectNoLeak(open)
		n.mustPublish(apiPod())
	})
}

// TestP9AHostileReplyOnRotationChangesNothing: the same replies, when the
// volume is mounted already.
func TestP9AHostileReplyOnRotationChangesNothing(t *testing.T) {
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		var s script
		n := newNode(t, protection, s.follow, boundedReplies)
		n.mustPublish(apiPod())
		n.mustUnpublish(apiPod())
		open := descriptors(t)
		rows := hostileReplies()
		for i, name := range slices.Sorted(maps.Keys(rows)) {
			row, p := rows[name], numbered(i)
			t.Run(name, func(t *testing.T) {
				n.add(p)
				n.mustPublish(p)
				before := n.look(p)
				if diff := cmp.Diff(secretFiles(), before.Files); diff != "" {
					t.Fatalf("content before (-want +got):\n%s", diff)
				}
				s.set(p, row.answer)
				n.clock.advance(2 * refreshInterval)
				calls := len(n.provider.Calls())
				err := n.publish(p)
				if err != nil {
					t.Errorf("NodePublishVolume() = %v, want nil: kubelet would delete the mount", err)
				}
				if got := len(n.provider.Calls()) - calls; got != 1 {
					t.Errorf("provider calls = %d, want 1", got)
				}
				n.expectSame(p, before)
				n.expectEnd(p, 4, audit.TypeRotate, row.reason)
				n.checkSpill(err)
				n.mustUnpublish(p)
				n.expectNothing(p)
				n.remove(p)
			})
		}
		n.expectNoLeak(open)
	})
}

// TestP6ModesThroughTheWholePlugin: whatever mode the provider asks for, the
// file has one of reading, or there is no volume.
func TestP6ModesThroughTheWholePlugin(t *testing.T) {
	type row struct {
		asked          int32
		group, without os.FileMode
		clamped        int64 // files whose mode counts as lowered, with a group
	}
	rows := []row{
		{0, 0o440, 0o444, 0}, // the default
		{0o400, 0o440, 0o400, 0},
		{0o440, 0o440, 0o440, 0},
		{0o444, 0o440, 0o444, 1},
		{0o600, 0o440, 0o400, 1},
		{0o644, 0o440, 0o444, 1},
		{0o777, 0o440, 0o444, 1},
		{0o004, 0, 0o004, 0},
		{0o755, 0o440, 0o444, 1},
		{0o4755, 0o440, 0o444, 1},
		{0o4000 | 0o440, 0o440, 0o440, 1},
		{0o2755, 0o440, 0o444, 1},
		{0o1777, 0o440, 0o444, 1},
		{0o7777, 0o440, 0o444, 1},
	}
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		var s script
		n := newNode(t, protection, s.follow)
		for i, row := range rows {
			for _, group := range []string{"2000", ""} {
				t.Run(fmt.Sprintf("0%o of group %q", row.asked, group), func(t *testing.T) {
					p, want, gid := numbered(2*i), row.group, uint32(2000)
					if group == "" {
						p, want, gid = numbered(2*i+1), row.without, 0
						p.fsGroup = ""
					}
					n.add(p)
					r := providertest.Response(map[string]string{"password": "", "user": "app"})
					r.Files[0].Mode, r.Files[1].Mode = row.asked, 0
					s.set(p, providertest.Reply(r))
					before := n.collect()["portcullis_file_mode_clamped{os_type=linux,provider=local}"]
					err := n.publish(p)
					if want == 0 {
						expectStatus(t, err, codes.Unavailable, "leaves nobody a right to read", "; hint: ")
						n.expectNothing(p)
						return
					}
					if err != nil {
						t.Fatalf("NodePublishVolume() = %v, want nil", err)
					}
					n.expectMode(p, "password", want, gid)
					if diff := cmp.Diff(map[string]string{"password": "", "user": "app"}, n.content(p)); diff != "" {
						t.Errorf("content (-want +got):\n%s", diff)
					}
					got := n.collect()["portcullis_file_mode_clamped{os_type=linux,provider=local}"] - before
					if group != "" && got != row.clamped {
						t.Errorf("files counted as lowered = %d, want %d", got, row.clamped)
					}
					n.mustUnpublish(p)
				})
			}
		}
	})
}
