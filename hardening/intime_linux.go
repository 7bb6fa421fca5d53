package hardening

import (
	"errors"
	"time"
)

// scrubTimeout is for the one way to block an open that O_NONBLOCK does not
// end: a fanotify(7) group with permission events whose owner never answers. A
// mount that is to go goes all the same.
const scrubTimeout = 5 * time.Second

var errBlocked = errors.New("somebody keeps files from being opened")

// inTime returns what f does, which opens what may be held up, or errBlocked
// after scrubTimeout. Then late gets what f returns in the end: f goes on by
// itself, and must use no descriptor that its caller closes.
func inTime[T any](f func() (T, error), late func(T)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	done, given := make(chan answer), make(chan struct{})
	go func() {
		value, err := f()
		select {
		case done <- answer{value, err}:
		case <-given:
			late(value)
		}
	}()
	timer := time.NewTimer(scrubTimeout)
	defer timer.Stop()
	select {
	case a := <-done:
		return a.value, a.err
	case <-timer.C:
		close(given)
		var none T
		return none, errBlocked
	}
}
