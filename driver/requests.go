package driver

import (
	"context"
	"errors"
	"sync"

	"github.com/portcullis-csi/portcullis/driver/identity"
	"github.com/portcullis-csi/portcullis/policies"
)

// errElsewise is a volume about which kubelet's next call may say something
// else than the last one did: it decides, and nobody before it.
var errElsewise = errors.New("what the last request said may no longer be what the next one says")

// standing is what a request showed of its tokens, once they were verified.
type standing struct {
	tokens   []policies.Token
	verified bool
	doubtful bool   // the next request may show it otherwise
	driver   string // version of the CSIDriver object, which says what tokens there are
	account  string // UID of the service account that they name
}

func standingOf(c identity.Confirmed) standing {
	return standing{c.Tokens, c.TokenVerified, c.Doubtful, c.Driver, string(c.ServiceAccount.UID)}
}

// lastRequest is what kubelet last said of a mounted volume, without tokens and
// secrets. All else that a decision reads comes from the cluster.
type lastRequest struct {
	claim identity.Claim
	class string
	group *int64
	standing
}

// again is a decision of our own accord on what kubelet last said.
type again struct {
	lastRequest
	cause cause
}

// complete fills in what the last request showed of its tokens, if the next one
// can only show the same: decisions on equal facts are equal (promise P2), and
// nothing is taken away for a fact that kubelet's own call would not find.
func (l lastRequest) complete(c identity.Confirmed) (identity.Confirmed, error) {
	if l.doubtful || c.Driver != l.driver || string(c.ServiceAccount.UID) != l.account {
		return identity.Confirmed{}, errElsewise
	}
	c.Tokens, c.TokenVerified = l.tokens, l.verified
	return c, nil
}

// gaveWay reports whether nothing was refused: a decision of our own accord left
// the volume to a call of kubelet's.
func (m *mountRequest) gaveWay(ctx context.Context, err error) bool {
	return m.again != nil && (ctx.Err() != nil || errors.Is(err, errElsewise))
}

// requests holds the last request of each mounted volume. It is in memory alone:
// a restart forgets it, and kubelet's next call brings it back.
type requests struct {
	mu   sync.Mutex
	last map[targetKey]lastRequest
}

// keep remembers a request of kubelet's that policy has reached a verdict on,
// which bounds its size.
func (r *requests) keep(m *mountRequest, a asked) {
	if m.again != nil {
		return
	}
	l := lastRequest{claim: m.claim, class: m.class, group: m.group, standing: a.standing}
	l.claim.Tokens, l.claim.ContextTokens = nil, nil
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil {
		r.last = map[targetKey]lastRequest{}
	}
	r.last[m.key] = l
}

func (r *requests) get(k targetKey) (lastRequest, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l, ok := r.last[k]
	return l, ok
}

func (r *requests) forget(k targetKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.last, k)
}
