package bundle

import (
	"time"

	"github.com/portcullis-csi/portcullis/policies"
)

const (
	// refusedFor is how long a version that was refused for its content is not
	// fetched again: signatures may be added to it, by which it is another thing.
	refusedFor = 15 * time.Minute
	// clockSlack is how far the clock and the time that passed may part.
	clockSlack = time.Minute
)

// moment is a time by the clock, and by what has passed.
type moment struct {
	wall      time.Time
	monotonic time.Duration
}

func (k *keeper) elapsed() moment { return moment{k.clock.wall(), k.Monotonic()} }

// refusal is a version that the source names and that was refused. Its source is
// looked at every half minute, and would send all of it each time.
type refusal struct {
	version string
	bundle  policies.Bundle // without content
	err     error
	at      moment
}

// refuse remembers a version where only other content can help. Signatures that
// are missing may come at any time, and a floor may become readable.
func (k *keeper) refuse(version string, b policies.Bundle, err error) {
	switch ReasonOf(err) {
	case ReasonSerial, ReasonEquivocation, ReasonExpired, ReasonInvalid, ReasonBreakGlass:
		b.Modules, b.Data, b.Places = nil, nil, nil
		k.refused = &refusal{version, b, err, k.elapsed()}
	case ReasonUnreadable, ReasonUnsigned, ReasonUntrusted, ReasonFloor:
	}
}

// stands reports whether a version is refused without another look. A clock that
// was set meanwhile may have been the reason, as at the start of a machine.
func (r *refusal) stands(version string, now moment) bool {
	passed := now.monotonic - r.at.monotonic
	apart := now.wall.Sub(r.at.wall) - passed
	return version == r.version && passed < refusedFor && apart.Abs() <= clockSlack
}
