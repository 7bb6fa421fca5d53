//go:build attack

package driver_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
)

// TestFleetOf200 mounts, rotates and unmounts 200 volumes at once.
func TestFleetOf200(t *testing.T) {
	const perTeam = 40
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		var generation atomic.Int64
		generation.Store(1)
		content := func(name string) map[string]string {
			return map[string]string{"password": fmt.Sprintf("%s %d", name, generation.Load()), "user": name}
		}
		n := newNode(t, fleetGranted, protection, func(s *setup) {
			s.provider.Handler = func(ctx context.Context, r *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
				return providertest.Files(content(podOf(r)))(ctx, r)
			}
		})
		var pods []pod
		for _, team := range teams() {
			for i := range perTeam {
				pods = append(pods, teamPod(team, i))
			}
		}
		n.fleet(pods...)
		all := func(what string, call func(pod) error) {
			t.Helper()
			for i, err := range together(pods, call) {
				if err != nil {
					t.Errorf("%s of %s = %v, want nil", what, pods[i].name, err)
				}
			}
		}
		readable := func() {
			t.Helper()
			n.expectBudget(len(pods))
			for _, p := range pods {
				if diff := cmp.Diff(content(p.name), n.content(p)); diff != "" {
					t.Errorf("content of %s (-want +got):\n%s", p.name, diff)
				}
			}
		}
		all("publish", n.publish)
		readable()
		generation.Add(1)
		n.clock.advance(2 * refreshInterval)
		all("republish", n.publish)
		readable()
		all("unpublish", n.unpublish)
		n.expectBudget(0)
		left, err := filepath.Glob(filepath.Join(n.root, "pods/*/volumes/*/*/mount"))
		if err != nil || len(left) > 0 || n.records.Len() > 0 || n.driver.LocksHeld() > 0 || n.driver.Refreshing() > 0 {
			t.Errorf("left: directories %q (%v), %d records, %d locks, %d refreshes, want nothing",
				left, err, n.records.Len(), n.driver.LocksHeld(), n.driver.Refreshing())
		}
		n.events(5 * len(pods)) // intent and end of mount and rotation, and one unmount each
	})
}
