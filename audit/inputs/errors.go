package inputs

import "errors"

// ErrGone is returned for what is not kept, or no longer.
var ErrGone = errors.New("it is not kept any more; hint: give kept inputs more room with --audit-retention-bytes")

// ErrDamaged is returned for what is not what was kept.
var ErrDamaged = errors.New("what is kept is damaged")

// ErrClosed is returned by a Store that was closed.
var ErrClosed = errors.New("kept inputs are closed")

// errHangs is why Close did not wait any longer.
var errHangs = errors.New("kept inputs not closed: their disk does not answer; hint: check the disk")
