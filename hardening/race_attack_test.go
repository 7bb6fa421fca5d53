//go:build attack && linux

package hardening_test

import (
	"testing"

	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// TestP8RaceForEveryDirectoryOfATarget changes every directory of the path in
// every way, under both protections.
func TestP8RaceForEveryDirectoryOfATarget(t *testing.T) {
	for _, how := range hardeningtest.Tricks() {
		for level, name := range hardeningtest.Levels(podUID, "vol") {
			t.Run(how.Name+"/"+name, func(t *testing.T) {
				eachProtection(t, func(t *testing.T, n *node) {
					r := newRace(t, n, level)
					r.run(t, r.trick(how), 60, 10)
				})
			})
		}
	}
}

func TestP8LongRaceWithPlants(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		r := newRace(t, n, levelMount)
		r.run(t, r.planting(), 1000, 100)
	})
}
