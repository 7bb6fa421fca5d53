package driver_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/driver"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
	"github.com/portcullis-csi/portcullis/policies"
)

// A candidate that appears while volumes are mounted has seen each of them once
// the time between two decisions has passed, with and without rotation: kubelet
// calls for every volume about once a minute, and the driver decides when it is due.
func TestEveryLiveVolumeIsDecidedOnAgainWithinFiveMinutes(t *testing.T) {
	hardeningtest.NeedRoot(t)
	const most = 5 * time.Minute
	for name, rotation := range map[string]driver.Rotation{
		"rotation": {Enabled: true, Interval: 2 * time.Minute}, "no rotation": {},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var decided []string
			n := newNode(t, func(s *setup) {
				s.rotation = rotation
				s.configure = func(c *driver.Config) {
					c.Decided = func(d policies.Decision) {
						mu.Lock()
						defer mu.Unlock()
						decided = append(decided, d.Input().Subject.PodUID+"/"+d.Input().Volume.Name)
					}
				}
			})
			pods := []pod{}
			for i := range 5 {
				p := apiPod()
				p.name, p.uid = fmt.Sprint("live-", i), fmt.Sprintf("6a0f5c3e-2f6b-4f39-9d0b-0d6f3a9e8b%02d", i)
				n.add(p)
				n.mustPublish(p)
				pods = append(pods, p)
			}
			mu.Lock()
			published := len(decided)
			decided = nil // the candidate appears now
			mu.Unlock()
			if published != len(pods) {
				t.Errorf("Decided was called %d times for %d mounts", published, len(pods))
			}
			for passed := time.Duration(0); passed < most; passed += time.Minute {
				n.clock.advance(time.Minute)
				for _, p := range pods {
					n.mustPublish(p)
				}
			}
			live := []string{}
			for uid, volume := range n.records.Volumes() {
				live = append(live, uid+"/"+volume)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, v := range live {
				if !slices.Contains(decided, v) {
					t.Errorf("%s was not decided on in %v", v, most)
				}
			}
			if len(live) != len(pods) {
				t.Errorf("%d volumes are live, want %d", len(live), len(pods))
			}
			for range n.records.Volumes() {
				break // a reader may stop
			}
			n.mustUnpublish(pods[0])
			if left := count(n.records.Volumes()); left != len(pods)-1 {
				t.Errorf("%d volumes are live after an unpublish, want %d", left, len(pods)-1)
			}
		})
	}
}

func count(seq func(func(string, string) bool)) int {
	n := 0
	for range seq {
		n++
	}
	return n
}
