package certificates

import (
	"sync"
	"time"
)

const (
	// clockLeap is how far two answers may be apart without anybody's clock having
	// leapt. Certificates are valid from so long before they are made.
	clockLeap = backdate
	// clockCertain is how long a clock that leapt must stay where it is, in every
	// answer, before it counts. Of several API servers one may be wrong, and each
	// answer may be another's: its certificates would be worth nothing to the others.
	clockCertain = 2 * time.Minute
)

// clock is the API servers', as their answers tell it. In between it goes by what
// this process has run, whatever becomes of the clock of its node.
type clock struct {
	mu    sync.Mutex
	known bool // some answer counted
	then  time.Time
	here  time.Time     // when it was then
	leap  time.Duration // of the answers since leapt, against the clock
	leapt time.Time     // zero: the last answer counted
}

// now returns the time, and whether it is certain: a first answer far from the clock
// of this node is of one that is wrong, and nobody knows yet which.
func (c *clock) now(here time.Time) (now time.Time, certain bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at(here), c.known || c.leapt.IsZero()
}

// at is called with the lock held.
func (c *clock) at(here time.Time) time.Time {
	if c.here.IsZero() {
		return here
	}
	return c.then.Add(here.Sub(c.here))
}

// told takes down what an answer says.
func (c *clock) told(now, here time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.here.IsZero() {
		c.then, c.here = here, here
	}
	leap := now.Sub(c.at(here))
	switch {
	case leap.Abs() <= clockLeap:
	case c.leapt.IsZero() || (leap-c.leap).Abs() > clockLeap:
		c.leap, c.leapt = leap, here
		return
	case here.Sub(c.leapt) < clockCertain:
		return
	}
	c.known, c.then, c.here, c.leapt = true, now, here, time.Time{}
}
