package bundle

import "errors"

// Reason says why a bundle did not come into force. The list is closed: events and
// metrics carry it.
type Reason string

// The reasons.
const (
	ReasonUnreadable   Reason = "unreadable"       // its source did not deliver it
	ReasonUnsigned     Reason = "unsigned"         // nobody vouches for it
	ReasonUntrusted    Reason = "untrusted"        // signed, but not as it must be
	ReasonSerial       Reason = "serial"           // its serial is below the floor
	ReasonEquivocation Reason = "equivocation"     // its serial is that of other content
	ReasonExpired      Reason = "expired"          // its not_after has passed
	ReasonInvalid      Reason = "invalid"          // it does not compile, or is no bundle
	ReasonFloor        Reason = "floor_unreadable" // nobody can say what the floor is
	ReasonBreakGlass   Reason = "break_glass"      // for emergencies, and used, over or too long
)

// Reasons returns the closed list.
func Reasons() []Reason {
	return []Reason{
		ReasonUnreadable, ReasonUnsigned, ReasonUntrusted, ReasonSerial, ReasonEquivocation, ReasonExpired,
		ReasonInvalid, ReasonFloor, ReasonBreakGlass,
	}
}

// LoadError is why a bundle did not come into force.
type LoadError struct {
	Reason Reason
	Err    error
}

// Error is that of Err, which names the remedy.
func (e *LoadError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *LoadError) Unwrap() error { return e.Err }

// ReasonOf returns the reason of an error of Reload.
func ReasonOf(err error) Reason {
	load, ok := errors.AsType[*LoadError](err)
	switch {
	case err == nil:
		return ""
	case ok:
		return load.Reason
	case errors.Is(err, ErrUnsigned):
		return ReasonUnsigned
	case errors.Is(err, ErrExpired):
		return ReasonExpired
	default:
		return ReasonInvalid
	}
}
