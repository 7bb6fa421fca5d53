package audit

import "errors"

// ErrUnavailable is returned when an event could not be made durable: nothing
// may be granted.
var ErrUnavailable = errors.New("audit log is not available")

// ErrClosed is returned by a Recorder that was closed.
var ErrClosed = errors.New("audit recorder is closed")
