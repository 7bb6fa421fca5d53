package certificates_test

import (
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/admission/certificates"
)

// One API server of three is years ahead, by fault or because somebody forges what it
// is told of time. Its answers come in between, and make no certificate of its time.
func TestOneWrongClockOfThree(t *testing.T) {
	for name, wrong := range map[string]time.Duration{"ahead": 800 * day, "behind": -800 * day} {
		t.Run(name, func(t *testing.T) {
			r := newReplica(t)
			var c certificates.Clock
			for i := range 1000 {
				here := start().Add(time.Duration(i) * 30 * time.Second)
				answer := here
				if i%3 == 1 {
					answer = here.Add(wrong)
				}
				c.Told(answer, here)
				now, certain := c.Now(here)
				if !certain || now.Sub(here).Abs() > time.Minute {
					t.Fatalf("look %d: the clock says %v, certain: %v, want %v", i, now, certain, here)
				}
				r.Now = now
				steps(t, r)
			}
		})
	}
}

// A clock that is set, by everybody's word, counts after two minutes and not before.
func TestAClockThatIsSet(t *testing.T) {
	var c certificates.Clock
	c.Told(start(), start())
	for s := 30; s <= 180; s += 30 {
		here := start().Add(time.Duration(s) * time.Second)
		c.Told(here.Add(10*day), here)
		now, _ := c.Now(here)
		if leapt := now.Sub(here) > day; leapt != (s >= 150) {
			t.Errorf("after %d seconds the clock says %v, want that it leapt: %v", s, now.Sub(here), s >= 150)
		}
	}
	// Small steps count at once, and so does what comes back.
	here := start().Add(time.Hour)
	c.Told(here.Add(10*day+50*time.Minute), here)
	if now, _ := c.Now(here); now.Sub(here) != 10*day+50*time.Minute {
		t.Errorf("after a step of 50 minutes the clock is %v ahead", now.Sub(here))
	}
}

// The clock of the node leaps and nothing follows from it: the time goes by what the
// process has run. time.Time keeps that beside what the clock says.
func TestTheNodesClockLeaps(t *testing.T) {
	var c certificates.Clock
	began := time.Now()
	api := began.Add(30 * time.Minute)
	c.Told(api, began)
	later := began.Add(5 * time.Second)
	if now, certain := c.Now(later); !certain || now.Sub(api) != 5*time.Second {
		t.Errorf("five seconds later the clock says %v more", now.Sub(api))
	}
}

// A replica that starts on a node that is far from the first API server it asks waits
// until it is certain who is right.
func TestAStartBetweenTwoClocks(t *testing.T) {
	var c certificates.Clock
	if now, certain := c.Now(start()); !certain || !now.Equal(start()) {
		t.Errorf("before any answer = %v, %v, want the node's time", now, certain)
	}
	for s := 0; s <= 120; s += 30 {
		here := start().Add(time.Duration(s) * time.Second)
		c.Told(here.Add(-3*day), here)
		now, certain := c.Now(here)
		if certain != (s >= 120) || certain && now.Sub(here) != -3*day {
			t.Errorf("after %d seconds = %v, certain: %v, want certain: %v", s, now.Sub(here), certain, s >= 120)
		}
	}
	// Another API server is of the node's opinion: that one was wrong.
	c = certificates.Clock{}
	c.Told(start().Add(3*day), start())
	c.Told(start().Add(time.Second), start().Add(time.Second))
	if now, certain := c.Now(start().Add(time.Second)); !certain || now.Sub(start()) != time.Second {
		t.Errorf("with the second answer = %v, %v, want the node's time", now.Sub(start()), certain)
	}
}
