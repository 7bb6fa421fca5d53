//go:build !race

// One caller, and every way to move a tag one after the other: nothing for the race
// detector, which takes some ten times as long.

package bundle_test

import (
	"testing"

	"github.com/portcullis-csi/portcullis/policies/bundle"
)

// TestP10RegistryTagMovedToWorse: whatever the tag comes to name, the last good
// bundle decides, now and after a restart, and the next good one comes into force.
func TestP10RegistryTagMovedToWorse(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		for name, tt := range moves() {
			t.Run(name, func(t *testing.T) {
				s := newShop(t, w)
				s.publish(5, true)
				s.must(s.start())
				tt.move(s)
				s.refused(tt.want, 5, "after the tag has moved")
				s.refused(tt.want, 5, "at the next look")
				if err := s.start(); bundle.ReasonOf(err) != tt.want {
					t.Errorf("Start() = %v, want %s", err, tt.want)
				}
				s.want(5, "after a restart")
				if st := s.source.Status(); st.Origin != bundle.OriginStore || st.Floor.Serial != 5 {
					t.Errorf("Status() = %s with floor %d, want the store with floor 5", st.Origin, st.Floor.Serial)
				}
				s.publish(8, false)
				s.must(s.reload())
				s.want(8, "after a good one")
			})
		}
	})
}
