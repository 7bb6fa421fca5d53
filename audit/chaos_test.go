package audit_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/audittest"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// moody is a log that fails, fills and hangs by turns.
type moody struct {
	*audittest.Log
	stop chan struct{}
	done chan struct{}
}

func newMoody(seed uint64) *moody {
	m := &moody{Log: &audittest.Log{}, stop: make(chan struct{}), done: make(chan struct{})}
	random := rand.New(rand.NewPCG(seed, 0))
	go func() {
		defer close(m.done)
		for {
			release := func() {}
			switch random.IntN(4) {
			case 0:
				m.Fail(errDisk)
			case 1:
				m.Fill(errDisk)
			case 2:
				m.Fail(nil)
				release = m.Hang()
			default:
				m.Fail(nil)
			}
			select {
			case <-m.stop:
				release()
				m.Fail(nil)
				return
			case <-time.After(time.Duration(random.IntN(3000)) * time.Microsecond):
				release()
			}
		}
	}()
	return m
}

func (m *moody) calm() {
	close(m.stop)
	<-m.done
}

// TestP7NothingIsLostOrDoubled drives a recorder over a log that keeps failing:
// what Record acknowledged and what was owed is in the log exactly once, no
// delivery that was refused stays open, and nothing is there that nobody made.
func TestP7NothingIsLostOrDoubled(t *testing.T) {
	allow := policiestest.Allow(t)
	m := newMoody(uint64(time.Now().UnixNano()))
	r, _ := audittest.New(t, func(c *audit.Config) { c.Log, c.Timeout = m, 2*time.Millisecond })
	var mu sync.Mutex
	must, may := map[string]bool{}, map[string]bool{}
	note := func(list map[string]bool, id string) {
		mu.Lock()
		defer mu.Unlock()
		list[id] = true
	}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 60 {
				e := audit.Decided(allow)
				if err := r.Record(t.Context(), e); err != nil {
					note(may, e.ID)
				} else {
					note(must, e.ID)
					end := audit.Finished(e.ID, allow, files(), "")
					note(must, end.ID)
					r.Owe(end)
				}
				// A denial is owed where it could not be recorded.
				gone := audit.Unmounted(claim(), "")
				note(must, gone.ID)
				if err := r.Record(t.Context(), gone); err != nil {
					r.Owe(gone)
				}
			}
		})
	}
	group.Wait()
	m.calm()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := r.Close(ctx); err != nil {
		t.Fatalf("Close() = %v, want no error", err)
	}
	times := map[string]int{}
	abandoned := 0
	for _, e := range m.Events(t) {
		times[e.ID]++
		if e.Reason == audit.ReasonAbandoned {
			abandoned++
			if !may[e.ParentID] {
				t.Errorf("event %s ends %s, which was acknowledged", e.ID, e.ParentID)
			}
		} else if !must[e.ID] && !may[e.ID] {
			t.Errorf("event %s (%s) was made by nobody", e.ID, e.Type)
		}
	}
	for id := range must {
		if times[id] != 1 {
			t.Errorf("event %s is there %d times, want once", id, times[id])
		}
	}
	for id, n := range times {
		if n != 1 {
			t.Errorf("event %s is there %d times, want once", id, n)
		}
	}
	if intents, err := audit.OpenIntents(m); err != nil || len(intents) != 0 {
		t.Errorf("OpenIntents() = %d intents, %v, want none", len(intents), err)
	}
	t.Logf("%d events must be there, %d were refused, %d of those became durable and were ended", len(must), len(may), abandoned)
	if owed := 8 * 60; len(may) == 0 || len(must) == owed {
		t.Errorf("refused %d, acknowledged or owed %d: both must happen for this to prove anything", len(may), len(must))
	}
}
