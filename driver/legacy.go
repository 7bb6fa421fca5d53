package driver

import (
	"context"
	"log/slog"
	"sync"
)

// legacySet holds the volumes that the upstream driver mounted before this one
// took its place. They are never written: their pods keep them until they
// restart.
type legacySet struct {
	mu  sync.Mutex
	set map[targetKey]bool
}

func (l *legacySet) add(k targetKey) (first bool) {
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

func (l *legacySet) remove(k targetKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.set, k)
}

func (l *legacySet) count() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(len(l.set))
}

// keepLegacy leaves a volume of the upstream driver as it is.
func (d *Driver) keepLegacy(ctx context.Context, k targetKey) {
	if d.legacy.add(k) {
		d.c.Logger.WarnContext(ctx, "volume of the upstream driver found: restart the pod to protect it",
			slog.String(keyPodUID, k.podUID), slog.String(keyVolume, k.volume))
	}
	d.metrics.publishSkipped.Add(ctx, 1, with())
}
