package driver

import (
	"context"
	"log/slog"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
)

// targetSet is a set of targets.
type targetSet struct {
	mu  sync.Mutex
	set map[targetKey]bool
}

func (l *targetSet) add(k targetKey) (first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.set[k] {
		return false
	}
	if l.set == nil {
		l.set = map[targetKey]bool{}
	}
	l.set[k] = true
	return true
}

func (l *targetSet) remove(k targetKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.set, k)
}

func (l *targetSet) count() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(len(l.set))
}

// keepLegacy leaves a volume of the upstream driver as it is.
func (d *Driver) keepLegacy(ctx context.Context, req *csi.NodePublishVolumeRequest, k targetKey) {
	if d.legacy.add(k) {
		d.c.Logger.WarnContext(ctx, "volume of the upstream driver found: restart the pod to protect it",
			slog.String(keyPodUID, k.podUID), slog.String(keyVolume, k.volume))
		d.tellLegacy(req, k)
	}
	d.metrics.publishSkipped.Add(ctx, 1, with())
}
