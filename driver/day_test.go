package driver_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/portcullis-csi/portcullis/driver"
	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// quietNode is a node without sockets, whose time can be that of a synctest
// bubble. No provider runs.
func quietNode(t *testing.T, grants string) *node {
	t.Helper()
	hardeningtest.NeedRoot(t)
	n := &node{t: t, root: t.TempDir(), manifest: t.TempDir(), policy: &policy{}, log: &memoryLog{}, clock: &clock{}, stderr: &lockedBuffer{}}
	if err := os.Mkdir(filepath.Join(n.root, "pods"), 0o750); err != nil {
		t.Fatal(err)
	}
	n.write("objects.yaml", objects)
	n.add(apiPod())
	n.policy.engine.Store(policiestest.Engine(t, grants))
	n.provider = &providertest.Provider{Dir: t.TempDir()}
	n.build(setup{
		rotation: driver.Rotation{Enabled: true, Interval: time.Minute}, protection: hardening.SettingAuto,
		maxVolume: 1 << 20, maxNode: 128 << 20, linger: time.Nanosecond,
	})
	return n
}

// TestP1ARetryWaitsForItsIntent: the intent of a second try is held until the
// provider has answered. Without it, what was fetched is not attached.
func TestP1ARetryWaitsForItsIntent(t *testing.T) {
	calls := 0
	var n *node
	files := providertest.Files(secretFiles())
	n = newNode(t, func(s *setup) {
		s.provider.Handler = func(ctx context.Context, r *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
			switch calls++; calls {
			case 1:
				return nil, errors.New("sealed")
			case 2:
				n.log.broken.Store(true) // while it is asked
			}
			return files(ctx, r)
		}
	})
	p := apiPod()
	if err := n.publish(p); err == nil {
		t.Fatal("NodePublishVolume() with a provider that fails = nil, want an error")
	}
	n.events(2)
	if err := n.publish(p); status.Code(err) != codes.Unavailable {
		t.Errorf("NodePublishVolume() with a log that fails = %v, want Unavailable", err)
	}
	if calls != 2 || len(n.content(p)) > 0 || len(mountLines(t, n.target(p))) > 0 {
		t.Errorf("after %d calls the pod has %v, want 2 and nothing", calls, n.content(p))
	}
	n.log.broken.Store(false)
	n.mustPublish(p)
	events := n.expectEvents("PC2001I intent", "PC2001E complete ProviderError", "PC2001I intent", "PC2001I complete")
	if events[3].ParentID != events[2].ID || n.content(p)["password"] != canary {
		t.Errorf("the delivery ends %s, want %s, with the files in the pod", events[3].ParentID, events[2].ID)
	}
}
