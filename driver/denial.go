package driver

import (
	"time"

	"github.com/portcullis-csi/portcullis/audit"
)

const (
	// confirmAfter passes between the two denials that take content away.
	confirmAfter = 10 * time.Second
	// denialLife is how long a denial waits for the second one. Between two
	// that are further apart there may have been anything.
	denialLife = 30 * time.Minute
)

// denial is what policy has said against a volume that is mounted, and what
// came of it. The zero value is nothing.
type denial struct {
	First      time.Time `json:"first,omitzero"`       // of the denials in a row
	Last       time.Time `json:"last,omitzero"`        // of them
	DecisionID string    `json:"decisionId,omitempty"` // of the last one
	Held       bool      `json:"held,omitempty"`       // confirmed, and held back by the brake
	Emptying   bool      `json:"emptying,omitempty"`   // the brake has let it pass
	RevokedAt  time.Time `json:"revokedAt,omitzero"`   // when that was
	RevokedBy  string    `json:"revokedBy,omitempty"`  // the decision
	Empty      bool      `json:"empty,omitempty"`      // and the volume is empty
	Expired    bool      `json:"expired,omitempty"`    // because its time to live ran out
	Untold     bool      `json:"untold,omitempty"`     // and kubelet is still to be told, since no call of its was there
}

// denied is the denial after one more. A clock that was set back begins anew:
// it must never bring a revocation forward.
func (n denial) denied(now time.Time) denial {
	if n.First.IsZero() || now.Before(n.Last) || now.Sub(n.Last) > denialLife {
		n.First = now
	}
	n.Last = now
	return n
}

// confirmed reports whether two evaluations agree that are far enough apart.
func (n denial) confirmed() bool { return n.Last.Sub(n.First) >= confirmAfter }

// unconfirmed reports whether a second evaluation is still to say whether the
// content goes.
func (n denial) unconfirmed() bool { return !n.First.IsZero() && !n.Empty && !n.confirmed() }

// outstanding reports whether content that two evaluations speak against is still
// to go: nobody has seen to it yet, and the brake does not hold it back.
func (n denial) outstanding() bool { return !n.First.IsZero() && !n.Empty && !n.Held && n.confirmed() }

// allowed is what is left of a denial once policy allows the volume again: the
// content is still to be brought back.
func (n denial) allowed() denial {
	n.First, n.Last, n.Held, n.Emptying = time.Time{}, time.Time{}, false, false
	return n
}

// restored is what is left once the content is back: the brake still counts
// that it was gone.
func (n denial) restored() denial { return denial{RevokedAt: n.RevokedAt} }

// cause is why the volume is empty.
func (n denial) cause() audit.Reason {
	if n.Expired {
		return audit.ReasonTTLExpired
	}
	return audit.ReasonPolicyDenied
}

// lapsed reports whether now is so long after t. What is a little in the future,
// since the clock was set back, has not lapsed; what is far in it was set by a
// clock that was wrong, and would not lapse for years.
func lapsed(now, t time.Time, d time.Duration) bool {
	return t.IsZero() || now.Sub(t) >= d || t.Sub(now) > d
}
