package driver_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/driver"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
	"github.com/portcullis-csi/portcullis/policies/shadow"
)

// A candidate that appears while volumes are mounted has seen each of them once
// the time between two decisions has passed, with and without rotation: kubelet
// calls for every volume about once a minute, and the driver decides when it is due.
func TestEveryLiveVolumeIsDecidedOnAgainWithinFiveMinutes(t *testing.T) {
	hardeningtest.NeedRoot(t)
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
			pods := n.mountLive(5)
			mu.Lock()
			published := len(decided)
			decided = nil // the candidate appears now
			mu.Unlock()
			if published != len(pods) {
				t.Errorf("Decided was called %d times for %d mounts", published, len(pods))
			}
			n.passMinutes(5, pods)
			live := []string{}
			for uid, volume := range n.records.Volumes() {
				live = append(live, uid+"/"+volume)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, v := range live {
				if !slices.Contains(decided, v) {
					t.Errorf("%s was not decided on in five minutes", v)
				}
			}
			if len(live) != len(pods) {
				t.Errorf("%d volumes are live, want %d", len(live), len(pods))
			}
			for range n.records.Volumes() {
				break // a reader may stop
			}
			n.mustUnpublish(pods[0])
			if left := lengthOf(n.records.Volumes()); left != len(pods)-1 {
				t.Errorf("%d volumes are live after an unpublish, want %d", left, len(pods)-1)
			}
		})
	}
}

// The whole of it: a candidate that would deny one of the pods is loaded while all
// are mounted. Five minutes later its report covers the node and names that pod, and
// no volume has lost anything.
func TestACandidateSeesTheWholeNodeInFiveMinutes(t *testing.T) {
	hardeningtest.NeedRoot(t)
	var candidate atomic.Pointer[policies.Engine]
	var s *shadow.Shadow
	n := newNode(t, func(s *setup) { s.rotation = driver.Rotation{Enabled: true, Interval: 2 * time.Minute} }, func(set *setup) {
		set.configure = func(c *driver.Config) {
			var err error
			s, err = shadow.New(shadow.Config{Active: c.Policy.Active, Candidate: candidate.Load, Live: c.Records.Volumes, Logger: c.Logger, Clock: c.Clock})
			if err != nil {
				t.Fatal(err)
			}
			c.Decided = s.Observe
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	pods := n.mountLive(5)
	if r := s.Report(); r.Compared != 0 || r.Live.Volumes != int64(len(pods)) || r.Live.Compared != 0 {
		t.Errorf("without a candidate %d were compared, and %+v is live; want none of %d", r.Compared, r.Live, len(pods))
	}
	next := strings.Replace(policiestest.Manifest, `"serial":1`, `"serial":2`, 1)
	candidate.Store(policiestest.Engine(t, grants, policiestest.WithFile(".manifest", next), policiestest.WithCheck("name", deniesLive3)))
	n.passMinutes(5, pods)
	waitFor(t, func() bool { l := s.Report().Live; return l.Compared == l.Volumes })
	r := s.Report()
	if r.Flips[shadow.Breaks] != r.Total() || len(r.Flipped) != 1 || r.Flipped[0].Workload.Name != "live-3" || r.Flipped[0].Volumes != 1 || r.Problem != "" {
		t.Errorf("the report is %+v, want that live-3 would break", r)
	}
	for _, p := range pods {
		n.expectContent(p, secretFiles())
	}
}

const deniesLive3 = `# METADATA
# schemas:
#   - input: schema.input
package portcullis.checks.name

deny contains finding if {
	input.subject.podName == "live-3"
	finding := {"id": "PR-300", "severity": "high", "message": "not this one", "remediation": "another name"}
}
`

// mountLive mounts the volumes of so many pods.
func (n *node) mountLive(count int) []pod {
	n.t.Helper()
	pods := []pod{}
	for i := range count {
		p := apiPod()
		p.name, p.uid = fmt.Sprint("live-", i), fmt.Sprintf("6a0f5c3e-2f6b-4f39-9d0b-0d6f3a9e8b%02d", i)
		n.add(p)
		n.mustPublish(p)
		pods = append(pods, p)
	}
	return pods
}

// passMinutes has kubelet call for every pod once a minute, as it does.
func (n *node) passMinutes(minutes int, pods []pod) {
	n.t.Helper()
	for range minutes {
		n.clock.advance(time.Minute)
		for _, p := range pods {
			n.mustPublish(p)
		}
	}
}

func lengthOf(seq func(func(string, string) bool)) int {
	n := 0
	for range seq {
		n++
	}
	return n
}
