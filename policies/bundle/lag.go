package bundle

import (
	"context"
	"time"

	"github.com/portcullis-csi/portcullis/policies/bundle/store"
)

const (
	// floorEvery is how often the cluster's floor is compared with the bundle in force.
	floorEvery = 5 * time.Minute
	// lagLimit is how long a bundle may be below the floor: files and tags reach the
	// processes of a cluster one after the other.
	lagLimit = 15 * time.Minute
)

// lag is what is known of the distance to the rest of the cluster, by the time that
// has passed.
type lag struct {
	next   time.Duration // look at the floor
	behind bool
	since  time.Duration
}

// lagging refuses to call a source good that goes on naming the bundle in force, while
// the cluster is further: whoever holds the source, or the way to it, keeps this
// process on an old bundle. It stays in force, since nothing better is here.
func (k *keeper) lagging(ctx context.Context, now *standing) error {
	if k.Floor == nil || now.bundle.BreakGlass {
		return nil
	}
	passed := k.Monotonic()
	if passed >= k.lag.next {
		k.lag.next = passed + floorEvery
		_, _ = k.readFloor(ctx) // that it cannot be read says nothing of the source
	}
	k.mu.Lock()
	cluster := k.cluster
	k.mu.Unlock()
	serial, digest := now.bundle.Manifest.Serial, now.bundle.Digest
	switch {
	case cluster == nil || cluster.Serial < serial:
	case cluster.Serial == serial && (cluster.Digest == "" || cluster.Digest == digest):
	case cluster.Serial == serial:
		return refuse(ReasonEquivocation, "policy bundle in force has serial %d, which is that of other content (%s) in this cluster; hint: find out who signed both, then publish with a higher serial", serial, cluster.Digest)
	default:
		if !k.lag.behind {
			k.lag.behind, k.lag.since = true, passed
		}
		if passed-k.lag.since < lagLimit {
			return nil
		}
		return refuse(ReasonSerial, "the source still has the policy bundle with serial %d, and the cluster's floor is %d; hint: see why the source has not what the others have, or who raised the floor", serial, cluster.Serial)
	}
	k.lag.behind = false
	return nil
}

// readFloor asks for the cluster's floor, and returns the highest that this process
// has seen, nil for none.
func (k *keeper) readFloor(ctx context.Context) (*store.Mark, error) {
	ctx, cancel := context.WithTimeout(ctx, floorTimeout)
	defer cancel()
	mark, err := k.Floor.Read(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil && (k.cluster == nil || mark.Serial >= k.cluster.Serial) {
		k.cluster = &mark
	}
	return k.cluster, err
}
