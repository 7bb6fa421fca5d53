package driver

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/portcullis-csi/portcullis/driver/identity"
	"github.com/portcullis-csi/portcullis/policies"
)

// unverifiedEvery lies between two lines that give a reason why tokens of
// mounted volumes are not verified.
const unverifiedEvery = time.Minute

// unverified knows which reasons operators were told lately. Where the
// CSIDriver object asks for a token that nothing verifies, every volume of the
// node has one at every refresh.
type unverified struct {
	mu   sync.Mutex
	told map[string]time.Time // by reason, of which there is a closed list
}

// due reports whether a reason is to be told, and notes that it is.
func (u *unverified) due(reason string, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if last, ok := u.told[reason]; ok && !lapsed(now, last, unverifiedEvery) {
		return false
	}
	if u.told == nil {
		u.told = map[string]time.Time{}
	}
	u.told[reason] = now
	return true
}

// tellUnverified tells operators why policy sees a token as not verified: of
// each mount, and of mounted volumes one example a minute.
func (d *Driver) tellUnverified(ctx context.Context, phase policies.Phase, c identity.Confirmed) {
	for _, t := range c.Unverified {
		if phase == policies.PhaseRotate && !d.unverified.due(t.Problem, d.c.Clock()) {
			continue
		}
		d.c.Logger.WarnContext(ctx, "service account token not verified", slog.String(keyNamespace, c.Pod.Namespace), slog.String(keyPod, c.Pod.Name),
			slog.String(keyAudience, t.Audience), slog.String(keyCause, t.Problem))
	}
}
