//go:build attack

package log_test

import (
	"context"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

// longFlood makes the flood the one of make nightly.
const longFlood = "PORTCULLIS_NIGHTLY"

// TestP7AFloodNeverFillsTheLog appends many times what the log may keep, from
// sixty-four sides, while somebody follows: 250,000 events through epochs of
// 4 MiB, or 2.5 million through 64 MiB by night. None is refused, the files stay
// within the retention, and what is left verifies.
func TestP7AFloodNeverFillsTheLog(t *testing.T) {
	n, producers := int64(250_000), int64(64)
	c := config(t)
	c.Clock, c.Boundary, c.CheckpointEvery = nil, boundaries(time.Now), time.Second
	c.EpochBytes, c.RetentionBytes = 4<<20, 32<<20
	if os.Getenv(longFlood) != "" {
		n, c.EpochBytes, c.RetentionBytes = 2_500_000, 64<<20, 1<<30
	}
	l := open(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	var followed atomic.Int64
	following := make(chan struct{})
	go func() {
		defer close(following)
		_ = l.Follow(ctx, auditlog.Position{}, func(auditlog.Leaf) error { followed.Add(1); return nil })
	}()
	pad := strings.Repeat("x", 500)
	var taken atomic.Int64
	var group sync.WaitGroup
	begin := time.Now()
	for range producers {
		group.Go(func() {
			for i := taken.Add(1); i <= n; i = taken.Add(1) {
				at := begin.Add(time.Duration(i) * time.Microsecond).UTC().Format(time.RFC3339Nano)
				if _, err := l.Append(t.Context(), []byte(`{"id":"`+strconv.FormatInt(i, 10)+`","time":"`+at+`","pad":"`+pad+`"}`)); err != nil {
					t.Errorf("Append() of event %d = %v, want no error", i, err)
					return
				}
			}
		})
	}
	group.Wait()
	took := time.Since(begin)
	cancel()
	<-following
	list := epochs(t, l)
	last := list[len(list)-1]
	t.Logf("%d events in %v, %.0f a second; epochs %d to %d are kept, the follower saw %d", n, took.Round(time.Second), float64(n)/took.Seconds(), list[0].Number, last.Number, followed.Load())
	closeLog(t, l)
	if use := diskUse(t, c.Dir); use > c.RetentionBytes+c.EpochBytes {
		t.Errorf("the log takes %d bytes, want at most %d", use, c.RetentionBytes+c.EpochBytes)
	}
	if list[0].Number < 2 {
		t.Errorf("the oldest epoch is %d, want it deleted: the flood was too small to prove anything", list[0].Number)
	}
	if got := verifiedAll(t, c.Dir); len(got) == 0 {
		t.Error("nothing is left")
	}
	again := open(t, c)
	if o := again.Opening(); o.Lost || len(o.Missing) > 0 {
		t.Errorf("Opening() = %+v, want nothing lost", o)
	}
}
