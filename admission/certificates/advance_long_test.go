//go:build !race

// One caller, and thousands of hours one after the other: nothing for the race detector,
// which takes some ten times as long.

package certificates_test

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestAYearAndAHalf lets time pass in hours. At each of them two replicas, one of
// which is a serving life behind at most, serve what the caBundle trusts.
func TestAYearAndAHalf(t *testing.T) {
	r := newReplica(t)
	all := map[string]int{}
	type view struct {
		cert *x509.Certificate
		at   time.Time
	}
	var served []view
	for ; r.Now.Before(start().Add(550 * day)); r.Now = r.Now.Add(time.Hour) {
		done, err := r.Steps()
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range done {
			all[s]++
		}
		if len(r.Live) > 2 {
			t.Fatalf("%d authorities are trusted at %v, want two at most", len(r.Live), r.Now)
		}
		c := serving(t, r)
		if left := c.NotAfter.Sub(r.Now); left <= 3*day {
			t.Fatalf("%v of the serving certificate is left, want more than an outage of three days", left)
		}
		if len(served) == 0 || !served[len(served)-1].cert.Equal(c) {
			served = append(served, view{c, r.Now})
		}
		for _, v := range served {
			if r.Now.Before(v.cert.NotAfter) {
				if err := trusted(v.cert, r.Live, r.Now); err != nil {
					t.Fatalf("what was served at %v is not trusted at %v: %v", v.at, r.Now, err)
				}
			}
		}
	}
	want := map[string]int{
		"the next authority is made": 2, "the next authority is trusted": 2, "the next authority signs from now on": 2,
		"the old authority is not trusted any more": 2, "the serving certificate is renewed": all["the serving certificate is renewed"],
	}
	if diff := cmp.Diff(want, all); diff != "" || all["the serving certificate is renewed"] < 150 {
		t.Errorf("steps of 550 days (-want +got):\n%s", diff)
	}
}
