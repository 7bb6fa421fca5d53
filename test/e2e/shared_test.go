//go:build e2e

package e2e_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
)

// Clusters that tests share. What wants the same of a cluster shares one; the
// tests of different ones run at the same time, since they wait more than they
// work.
const (
	pods     = "pods"     // tests that leave the driver alone: all at once
	failures = "failures" // tests that break something and mend it: in turn
	rights   = "rights"   // tests of rights and of what is refused: in turn
)

// mostClusters is how many there are at the same time. Each takes 1.3 GB, and with
// more of them two processors do not start pods within the times that tests allow.
const mostClusters = 5

// longestFirst are the clusters in the order in which they get room: the longest
// begin first, or they would run alone at the end. The others follow.
var longestFirst = []string{failures, "limits", "migration", "webhook", rights, "walk", "uninstall"}

// shared are the clusters that tests share, by name.
type sharedClusters struct {
	mu   sync.Mutex
	of   map[string]*sharedCluster
	room chan struct{} // full while there are mostClusters

	began time.Time            // of the run
	since map[string]time.Time // when each cluster that is there began
}

type sharedCluster struct {
	name  string
	turn  sync.Mutex // of tests that go one by one
	mu    sync.Mutex // guards what follows
	world *world     // nil until the first test, and after the last
	users int        // tests that have it or wait for it
}

// unusedFor is how long a cluster that no test has or waits for is kept: the tests that
// run at the same time all begin at once, so that none is to come.
const unusedFor = 10 * time.Second

func newShared() *sharedClusters {
	return &sharedClusters{of: map[string]*sharedCluster{}, room: make(chan struct{}, mostClusters), began: time.Now(), since: map[string]time.Time{}}
}

// enter waits for room for a cluster. All of them ask when the parallel tests begin:
// each gives those before it in longestFirst the time to ask first.
func (s *sharedClusters) enter(name string) {
	behind := slices.Index(append(longestFirst, name), name)
	time.Sleep(time.Duration(behind) * 100 * time.Millisecond)
	s.room <- struct{}{}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since[name] = time.Now()
}

// leave gives the room of a cluster to another, and says when it was taken: what the
// schedule above is made of.
func (s *sharedClusters) leave(name string) {
	<-s.room
	s.mu.Lock()
	defer s.mu.Unlock()
	second := func(t time.Time) time.Duration { return t.Sub(s.began).Round(time.Second) }
	fmt.Fprintf(os.Stderr, "cluster %s: from %v to %v of the run\n", name, second(s.since[name]), second(time.Now()))
}

func (s *sharedClusters) named(name string) *sharedCluster {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of[name] == nil {
		s.of[name] = &sharedCluster{name: name}
	}
	return s.of[name]
}

func (s *sharedClusters) close() {
	s.mu.Lock()
	all := slices.Collect(maps.Values(s.of))
	s.mu.Unlock()
	for _, c := range all { // whose ends take the lock
		c.end()
	}
}

// use notes that a test has or waits for the cluster until it ends.
func (c *sharedCluster) use(t *testing.T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.users++
	t.Cleanup(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.users--; c.users == 0 {
			time.AfterFunc(unusedFor, c.end)
		}
	})
}

// end ends a cluster that nobody uses: an idle one takes a sixth of a processor from
// those that wait for its room.
func (c *sharedCluster) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.world != nil && c.users == 0 {
		c.world.close()
		c.world = nil
	}
}

// view is the cluster as a test sees it, which begins it if it is the first.
func (c *sharedCluster) view(t *testing.T) *world {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.world == nil {
		w := begin(t, c.name)
		c.world = w
		t.Cleanup(w.explain)
		w.installAll()
	}
	if c.world.T == t {
		return c.world
	}
	view := *c.world
	view.T = t
	t.Cleanup(view.explain)
	return &view
}

// theWorld is the cluster of tests that leave the driver alone. Whoever uses it
// leaves no pod.
func theWorld(t *testing.T) *world {
	t.Helper()
	c := shared.named(pods)
	c.use(t)
	return c.view(t)
}

// inTurn is a shared cluster for this test alone, at the same time as tests of
// other clusters. Whoever uses it leaves it as it was.
func inTurn(t *testing.T, name string) *world {
	t.Helper()
	t.Parallel()
	c := shared.named(name)
	c.use(t)
	c.turn.Lock()
	t.Cleanup(c.turn.Unlock)
	return c.view(t)
}
