// The race detector sees no more in each wrong field, one after the other, than in
// a few, and takes some twenty times as long.

//go:build !race

package driver_test

import "testing"

// TestP12EveryFieldOfARequest goes through every field of the request, the
// pod's volume and the class, wrong in each way that matters. Whatever it is,
// nobody is asked for secrets.
func TestP12EveryFieldOfARequest(t *testing.T) {
	n := newNode(t)
	n.remove(apiPod())
	for i, row := range refusals() {
		t.Run(row.field+"/"+row.name, func(t *testing.T) {
			p := numbered(i)
			n.add(p)
			defer n.restore(p)
			err := row.run(n, &p)
			row.expectReply(t, err)
			n.expectNothing(numbered(i))
			if calls := len(n.provider.Calls()); calls != 0 {
				t.Fatalf("the provider was asked for %s", row.name)
			}
			if row.reason != "" {
				own := n.podEvents(p, 1)
				if last := own[len(own)-1]; last.Reason != row.reason {
					t.Errorf("event = %s, want one with reason %s", summary(own), row.reason)
				}
			}
			n.checkSpill(err)
		})
	}
	n.expectNoPanic()
	// The fixture as it is would have been mounted.
	n.add(apiPod())
	n.mustPublish(apiPod())
}

// TestP9EveryFieldOfARepublish: the same, when the volume is mounted, takes
// nothing away and is no error to kubelet.
func TestP9EveryFieldOfARepublish(t *testing.T) {
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		n := newNode(t, protection)
		n.remove(apiPod())
		for i, row := range refusals() {
			if row.elsewhere {
				continue
			}
			t.Run(row.field+"/"+row.name, func(t *testing.T) {
				p := numbered(i)
				n.add(p)
				defer n.restore(p)
				n.mustPublish(p)
				before, calls := n.look(p), len(n.provider.Calls())
				n.clock.advance(2 * refreshInterval)
				changed := p
				if err := row.run(n, &changed); err != nil {
					t.Errorf("republish = %v, want nil: kubelet would delete the mount", err)
				}
				n.expectSame(p, before)
				if got := len(n.provider.Calls()); got != calls {
					t.Errorf("the provider was asked for %s", row.name)
				}
				if n.failures(p) == 0 {
					t.Error("the republish did not fail: the volume was not due")
				}
				n.mustUnpublish(p)
				n.expectNothing(p)
			})
		}
		n.expectNoPanic()
	})
}
