package bundle

import (
	"sync"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
)

// trustedClock tells the time by which bundles end: that of the clock, and never
// before the latest time that is certain. A clock that was set back so revives no
// bundle.
//
// Certain is what was seen to pass since an earlier certain time, and what the clock
// says within the life of a verified bundle, of which it lasts 90 days at most. So
// one jump of the clock into the far future leaves nothing behind, and one within
// the life of a bundle cannot shut out the next, whose end lies behind that of this
// one.
type trustedClock struct {
	wall      func() time.Time
	monotonic func() time.Duration

	mu   sync.Mutex
	mark time.Time
	at   time.Duration // when mark was certain
}

// now returns the later of the clock and the certain time.
func (c *trustedClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return later(c.wall(), c.certain())
}

func (c *trustedClock) certain() time.Time { return c.mark.Add(c.monotonic() - c.at) }

// observe raises the certain time, with the clock where a verified bundle confirms
// it, and returns it.
func (c *trustedClock) observe(confirmed policies.Manifest) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	wall, end := c.wall(), confirmed.NotAfter
	switch certain := c.certain(); {
	case wall.Before(end) && wall.After(end.Add(-longestLifetime)):
		c.mark = later(certain, wall)
	case !c.mark.IsZero():
		c.mark = certain
	}
	c.mark, c.at = c.mark.Round(0).UTC(), c.monotonic()
	return c.mark
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
