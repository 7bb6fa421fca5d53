package driver_test

import (
	"slices"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/driver"
)

func TestBrake(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	fine := driver.Denial{}
	denied := driver.Denial{First: ago(time.Minute), Last: ago(time.Second)}
	held := driver.Denial{First: ago(time.Hour), Last: ago(time.Second), Held: true}
	gone := driver.Denial{First: ago(time.Minute), Last: ago(time.Second), RevokedAt: ago(time.Minute), Empty: true}
	goneLong := driver.Denial{First: ago(time.Hour), Last: ago(time.Second), RevokedAt: ago(time.Hour), Empty: true}
	failed := driver.Denial{First: ago(time.Minute), Last: ago(time.Second), RevokedAt: ago(time.Minute)}
	stale := driver.Denial{First: ago(2 * time.Hour), Last: ago(time.Hour)}
	farAhead := driver.Denial{RevokedAt: now.Add(time.Hour)}
	ahead := driver.Denial{First: now.Add(5 * time.Minute), Last: now.Add(5 * time.Minute), RevokedAt: now.Add(5 * time.Minute), Empty: true}
	many := slices.Repeat[[]driver.Denial]
	of := func(n driver.Denial, count int) []driver.Denial { return many([]driver.Denial{n}, count) }
	for name, c := range map[string]struct {
		all          []driver.Denial
		live, denied int
		holds        bool
	}{
		"nothing":                                {nil, 0, 0, false},
		"five of five":                           {of(denied, 5), 5, 5, false},
		"six of six, none revoked yet":           {of(denied, 6), 6, 6, false},
		"the sixth of six":                       {slices.Concat(of(gone, 5), of(denied, 1)), 6, 6, true},
		"six of thirty are 20 %":                 {slices.Concat(of(gone, 5), of(denied, 1), of(fine, 24)), 30, 6, false},
		"six of twenty-nine are more":            {slices.Concat(of(gone, 5), of(denied, 1), of(fine, 23)), 29, 6, true},
		"four revoked of many denied":            {slices.Concat(of(gone, 4), of(denied, 50), of(fine, 50)), 104, 54, false},
		"what failed counts as revoked":          {slices.Concat(of(failed, 5), of(denied, 1)), 6, 6, true},
		"one held, nothing revoked for hours":    {slices.Concat(of(goneLong, 5), of(held, 1), of(denied, 5), of(fine, 4)), 10, 6, true},
		"held, but few":                          {slices.Concat(of(held, 2), of(fine, 4)), 6, 2, false},
		"revoked long ago is not live":           {slices.Concat(of(goneLong, 50), of(denied, 1)), 1, 1, false},
		"a denial of hours ago is none":          {slices.Concat(of(stale, 10), of(gone, 5), of(denied, 1)), 16, 6, true},
		"and leaves few":                         {of(stale, 10), 10, 0, false},
		"a clock that was a little ahead brakes": {slices.Concat(of(ahead, 5), of(denied, 1)), 6, 6, true},
		"and not for ever":                       {slices.Concat(of(farAhead, 5), of(denied, 1)), 6, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			live, denied, holds := driver.Brake(now, c.all...)
			if live != c.live || denied != c.denied || holds != c.holds {
				t.Errorf("Brake() = %d live, %d denied, holds %t, want %d, %d, %t", live, denied, holds, c.live, c.denied, c.holds)
			}
		})
	}
}
