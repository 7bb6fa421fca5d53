//go:build attack

package driver_test

import (
	"testing"

	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// TestP8RaceAtEveryDirectory does one trick at one directory at a time, so that
// none hides behind another.
func TestP8RaceAtEveryDirectory(t *testing.T) {
	for _, how := range hardeningtest.Tricks() {
		t.Run(how.Name, func(t *testing.T) {
			for level, name := range hardeningtest.Levels(apiUID, volume) {
				t.Run(name, func(t *testing.T) {
					bothProtections(t, func(t *testing.T, protection func(*setup)) {
						r := newDriverRace(t, protection)
						p := r.path(level)
						r.run(hardeningtest.Container(r.root), func(i int) { how.Step(p, i) }, []*hardeningtest.Path{p}, 15, 5)
					})
				})
			}
		})
	}
}

func TestP8LongRaceOfPlants(t *testing.T) {
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		r := newDriverRace(t, protection)
		p := r.path(len(hardeningtest.Levels(apiUID, volume)) - 1)
		r.run(hardeningtest.Host, func(int) { hardeningtest.Plant(p, hardening.Marker) }, []*hardeningtest.Path{p}, 200, 50)
	})
}
