package log

import (
	"encoding/json"
	"time"
)

// The bounds of a tail. The writer signs within the transaction that would
// pass one of them, whatever became of the signature that is due by the clock:
// so a longer tail is a forged one, also on a node whose clock jumps.
const (
	maxTail     = 256
	maxTailSpan = time.Minute
)

// tail is what came after the last checkpoint.
type tail struct {
	events   int64
	from, to time.Time // of the earliest and latest event that has a time
}

func (t *tail) add(at time.Time) {
	t.events++
	if at.IsZero() {
		return
	}
	if t.from.IsZero() || at.Before(t.from) {
		t.from = at
	}
	if at.After(t.to) {
		t.to = at
	}
}

func (t *tail) long() bool { return t.events >= maxTail || t.to.Sub(t.from) > maxTailSpan }

// timeOf returns the time that an event says, or zero.
func timeOf(leaf []byte) time.Time {
	var h struct {
		Time time.Time `json:"time"`
	}
	if json.Unmarshal(leaf, &h) != nil {
		return time.Time{}
	}
	return h.Time
}
