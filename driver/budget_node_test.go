package driver_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/driver"
	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
)

const (
	page     = 4 << 10
	smallest = 15 * page        // content of a volume here, beside a page of its own
	largest  = 2*16*page + page // what such a volume fills
	share    = 2 * largest      // of a namespace
	onNode   = 4 * share        // of the node
)

// tight is a node with room for eight volumes, two in each namespace.
func tight(s *setup) {
	fleetGranted(s)
	s.maxVolume, s.maxNode = 16*page, onNode
	s.provider.Handler = providertest.Files(bytesOf(smallest, "x"))
}

func bytesOf(bytes int, fill string) map[string]string {
	return map[string]string{"password": strings.Repeat(fill, bytes), "user": "app"}
}

// expectBudget compares the driver's count with the mount table.
func (n *node) expectBudget(volumes int) {
	n.t.Helper()
	sizes := n.settled()
	if used := n.inUse(); len(sizes) != volumes || sum(sizes) != used {
		n.t.Errorf("%d volumes of %d bytes in the mount table, %d in the budget, want %d volumes and equal bytes", len(sizes), sum(sizes), used, volumes)
	}
}

func TestP8BudgetsOfNodeAndNamespaces(t *testing.T) {
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		n := newNode(t, tight, protection)
		var all []pod
		for _, team := range teams() {
			all = append(all, teamPod(team, 0), teamPod(team, 1), teamPod(team, 2))
		}
		n.fleet(all...)
		full := teams()[:4]
		refused := 0
		for _, team := range full {
			n.mustPublish(teamPod(team, 0))
			n.mustPublish(teamPod(team, 1))
			if team != "team-d" { // after which the node is full
				expectStatus(t, n.publish(teamPod(team, 2)), codes.ResourceExhausted, "the memory budget of namespace "+team+" is used up", "; hint: ", "--max-node-bytes")
				refused++
			}
		}
		n.expectBudget(8)
		last := teamPod("team-e", 0)
		err := n.publish(last)
		expectStatus(t, err, codes.ResourceExhausted, "the memory budget of this node is used up")
		for _, secret := range append(full, fmt.Sprint(onNode)) {
			if strings.Contains(status.Convert(err).Message(), secret) {
				t.Errorf("text = %q tells a tenant about %q", status.Convert(err).Message(), secret)
			}
		}
		n.expectLast(last, "PC2001W complete BudgetExceeded")
		if calls := len(n.provider.Calls()); calls != 8 || refused != 3 {
			t.Errorf("provider calls = %d after %d refusals, want 8 after 3: nothing is fetched for what there is no room for", calls, refused)
		}
		// Mounted volumes are refreshed and not touched.
		n.clock.advance(2 * refreshInterval)
		for _, err := range together(all[:2], n.publish) {
			if err != nil {
				t.Errorf("republish on a full node = %v, want nil", err)
			}
		}
		n.expectBudget(8)
		n.mustUnpublish(teamPod("team-b", 1))
		n.mustPublish(last)
		n.expectBudget(8)
	})
}

// expectLast waits for the last event of a pod.
func (n *node) expectLast(p pod, want string) {
	n.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	got := ""
	for got != want {
		if time.Now().After(deadline) {
			n.t.Fatalf("last event of %s = %q, want %q", p.name, got, want)
		}
		time.Sleep(time.Millisecond)
		for _, e := range n.recorded() {
			if e.Workload != nil && e.Workload.PodUID == p.uid {
				got = summary([]audit.Event{e})
			}
		}
	}
}

// panicking is a recorder at which the call that reports what says panics.
type panicking struct {
	driver.Recorder
	on func(audit.Event) bool
}

func (r panicking) Owe(e audit.Event) {
	r.Recorder.Owe(e)
	if r.on(e) {
		panic("out of order")
	}
}

// TestBudgetComesBackAfterEveryEnd: whatever ends a publish, what it took is
// there for the next one.
func TestBudgetComesBackAfterEveryEnd(t *testing.T) {
	var n *node
	writesItself := func(ctx context.Context, r *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
		target := n.target(teamPod("team-a", 0))
		if err := os.MkdirAll(target, 0o755); err != nil {
			t.Error(err)
		}
		if err := os.WriteFile(filepath.Join(target, "password"), []byte("x"), 0o600); err != nil {
			t.Error(err)
		}
		return providertest.Files(bytesOf(smallest, "x"))(ctx, r)
	}
	occupies := func(ctx context.Context, r *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
		if err := os.WriteFile(n.target(teamPod("team-a", 0)), nil, 0o600); err != nil {
			t.Error(err)
		}
		return providertest.Files(bytesOf(smallest, "x"))(ctx, r)
	}
	tests := map[string]struct {
		handler providertest.Handler
		panics  audit.Type // of the event at which the driver panics
		code    codes.Code
		mounted int
	}{
		"the provider fails":            {providertest.Fail(codes.Internal, "down"), "", codes.Unavailable, 0},
		"files beyond the grant":        {providertest.Files(map[string]string{"password": "x", "more": "x"}), "", codes.Unavailable, 0},
		"more than one volume":          {providertest.Files(bytesOf(2*largest, "x")), "", codes.ResourceExhausted, 0},
		"a page more than one volume":   {providertest.Files(bytesOf(smallest+1, "x")), "", codes.ResourceExhausted, 0},
		"the provider writes itself":    {writesItself, "", codes.Unavailable, 0},
		"the target cannot be attached": {occupies, "", codes.Unavailable, 0},
		"a panic before the attach":     {writesItself, audit.TypeIntegrityFailure, codes.Unavailable, 0},
		"a panic after the attach":      {providertest.Files(bytesOf(smallest, "x")), audit.TypeMount, codes.Unavailable, 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			bothProtections(t, func(t *testing.T, protection func(*setup)) {
				var armed atomic.Bool
				armed.Store(true)
				n = newNode(t, tight, protection, func(s *setup) {
					s.provider.Handler = providertest.InTurn(tt.handler, providertest.Files(bytesOf(smallest, "x")))
					s.recorder = func(r driver.Recorder) driver.Recorder {
						return panicking{r, func(e audit.Event) bool { return tt.panics != "" && e.Type == tt.panics && armed.Load() }}
					}
				})
				p := teamPod("team-a", 0)
				n.fleet(p)
				err := n.publish(p)
				expectStatus(t, err, tt.code, "; hint: ")
				if text := status.Convert(err).Message(); tt.code == codes.ResourceExhausted && !strings.Contains(text, "the files do not fit into the volume: volume bytes: ") {
					t.Errorf("text = %q, want it to say what does not fit", text)
				}
				armed.Store(false)
				n.expectBudget(tt.mounted)
				if locks := n.driver.LocksHeld(); locks != 0 {
					t.Errorf("locks held = %d, want 0", locks)
				}
				n.mustUnpublish(p)
				n.expectBudget(0)
				n.mustPublish(p)
				n.expectBudget(1)
			})
		})
	}
}

// TestP8BudgetAfterAKill: the mount table says what is in use, and volumes.db
// whose it is. If that is lost, the next refresh says it again, also where no
// provider is asked.
func TestP8BudgetAfterAKill(t *testing.T) {
	for name, rotation := range map[string]driver.Rotation{"rotation": {Enabled: true, Interval: refreshInterval}, "no rotation": {}} {
		t.Run(name, func(t *testing.T) {
			bothProtections(t, func(t *testing.T, protection func(*setup)) {
				state := t.TempDir()
				var s *setup
				n, restart := restartable(t, tight, protection, func(chosen *setup) { chosen.stateDir, chosen.rotation, s = state, rotation, chosen })
				mounted := []pod{teamPod("team-a", 0), teamPod("team-a", 1), teamPod("team-b", 0)}
				more := teamPod("team-a", 2)
				n.fleet(append(mounted, more, teamPod("team-b", 1))...)
				for _, p := range mounted {
					n.mustPublish(p)
				}
				n.awaitRecords(state, len(mounted))
				restart()
				n.expectBudget(3)
				expectStatus(t, n.publish(more), codes.ResourceExhausted, "namespace team-a")

				s.stateDir = "" // lost
				restart()
				n.expectBudget(3)
				n.clock.advance(time.Hour)
				for _, p := range mounted {
					n.mustPublish(p)
				}
				n.expectBudget(3)
				expectStatus(t, n.publish(more), codes.ResourceExhausted, "namespace team-a")
				n.mustPublish(teamPod("team-b", 1))
				for _, p := range append(mounted, teamPod("team-b", 1)) {
					n.mustUnpublish(p)
				}
				n.expectBudget(0)
			})
		})
	}
}

// awaitRecords waits until volumes.db holds so many volumes: the disk follows.
func (n *node) awaitRecords(dir string, want int) {
	n.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		text, err := os.ReadFile(filepath.Join(dir, "volumes.db"))
		if lines := strings.Count(string(text), "\n") - 1; err == nil && lines == want {
			return
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("volumes.db = %q, %v, want %d records", text, err, want)
		}
		time.Sleep(time.Millisecond)
	}
}

// TestP8BudgetsHoldInARace publishes more than there is room for, of every size,
// and unpublishes again, while somebody adds up the mount table.
func TestP8BudgetsHoldInARace(t *testing.T) {
	const looks, perTeam = 5 * budgetRounds, 4
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		var calls atomic.Int64
		n := newNode(t, tight, protection, func(s *setup) {
			s.provider.Handler = func(ctx context.Context, r *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
				pages := 1 + int(calls.Add(1)*7%15)
				return providertest.Files(bytesOf(pages*page, "x"))(ctx, r)
			}
		})
		var pods []pod
		team := map[string]string{} // by pod UID
		for _, name := range teams() {
			for i := range perTeam {
				p := teamPod(name, i)
				pods, team[p.uid] = append(pods, p), name
			}
		}
		n.fleet(pods...)
		stop, watched := make(chan struct{}), make(chan int, 1)
		go func() { watched <- n.watchBudget(team, stop) }()
		refused, most := 0, 0
		for range budgetRounds {
			for i, err := range together(pods, n.publish) {
				if code := status.Code(err); err != nil && code != codes.ResourceExhausted {
					t.Errorf("NodePublishVolume(%s) = %v, want nil or %v", pods[i].name, err, codes.ResourceExhausted)
				} else if err != nil {
					refused++
				}
			}
			most = max(most, len(n.sizes()))
			n.expectBudget(len(n.sizes()))
			for i, err := range together(pods, n.unpublish) {
				if err != nil {
					t.Errorf("NodeUnpublishVolume(%s) = %v, want nil", pods[i].name, err)
				}
			}
			n.expectBudget(0)
		}
		close(stop)
		if seen := <-watched; seen < looks || refused < budgetRounds || most < 8 {
			t.Errorf("%d looks, %d refusals, at most %d volumes: want at least %d, %d and 8, or nothing was raced", seen, refused, most, looks, budgetRounds)
		}
	})
}

// watchBudget adds up until stop is closed, and returns how often it saw volumes.
func (n *node) watchBudget(team map[string]string, stop <-chan struct{}) (seen int) {
	for {
		select {
		case <-stop:
			return seen
		default:
		}
		if used := n.inUse(); used > onNode {
			n.t.Errorf("budget in use = %d, want at most %d", used, onNode)
		}
		sizes := n.settled()
		if len(sizes) > 0 {
			seen++
		}
		perTeam := map[string]int64{}
		for uid, size := range sizes {
			perTeam[team[uid]] += size
		}
		for name, size := range perTeam {
			if size > share {
				n.t.Errorf("volumes of %s may fill %d bytes, want at most %d", name, size, share)
			}
		}
		if total := sum(sizes); total > onNode {
			n.t.Errorf("volumes of the node may fill %d bytes, want at most %d", total, onNode)
		}
	}
}

// counting answers each call with a content of its own.
func counting(pages int) (providertest.Handler, func() string) {
	var calls atomic.Int64
	text := func(i int64) string { return strings.Repeat(fmt.Sprintf("%08d", i), pages*page/8) }
	return func(ctx context.Context, r *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
		return providertest.Files(map[string]string{"password": text(calls.Add(1)), "user": "app"})(ctx, r)
	}, func() string { return text(calls.Load()) }
}

// TestP9NoSpaceInTheVolumeLeavesTheOld: somebody privileged fills the tmpfs. A
// rotation that fails leaves nothing behind, and the next one works.
func TestP9NoSpaceInTheVolumeLeavesTheOld(t *testing.T) {
	fill := func(t *testing.T, evil, options string, files, size int) (empty func()) {
		t.Helper()
		if err := unix.Mount("", evil, "", unix.MS_REMOUNT, options); err != nil {
			t.Fatal(err)
		}
		// Under no name of ours: what looks like a leftover of a rotation goes.
		name := func(i int) string { return filepath.Join(evil, fmt.Sprint("evil-", i)) }
		made := 0
		for i := range files {
			if err := os.WriteFile(name(i), make([]byte, size), 0o600); err != nil {
				break
			}
			made++
		}
		if made == 0 || made == files {
			t.Fatalf("%d of %d files fit, want some, and the volume full", made, files)
		}
		return func() {
			for i := range made {
				if err := os.Remove(name(i)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	tests := map[string]struct {
		options     string
		files, size int
	}{
		"bytes":  {"size=400k", 1000, page},
		"inodes": {"nr_inodes=40", 1000, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			bothProtections(t, func(t *testing.T, protection func(*setup)) {
				changing, now := counting(3)
				n := newNode(t, tight, protection, func(s *setup) { s.provider.Handler = changing })
				p := teamPod("team-a", 0)
				n.fleet(p)
				n.mustPublish(p)
				old := n.content(p)
				generation, err := os.Readlink(filepath.Join(n.target(p), "..data"))
				if err != nil {
					t.Fatal(err)
				}
				empty := fill(t, n.writable(p), tt.options, tt.files, tt.size)
				for range 3 {
					n.clock.advance(time.Hour)
					n.mustPublish(p)
					content := n.content(p)
					maps.DeleteFunc(content, func(name, _ string) bool { return strings.HasPrefix(name, "evil-") })
					if diff := cmp.Diff(old, content); diff != "" {
						t.Fatalf("content of a full volume (-want +got):\n%s", diff)
					}
					if left, err := filepath.Glob(filepath.Join(n.target(p), "..2*")); err != nil || len(left) != 1 || filepath.Base(left[0]) != generation {
						t.Errorf("generations in a full volume = %q, %v, want %q alone", left, err, generation)
					}
				}
				n.expectLast(p, "PC2002W complete BudgetExceeded")
				if used := n.inUse(); used > largest {
					t.Errorf("budget in use = %d, want at most one volume's %d", used, largest)
				}
				empty()
				n.clock.advance(time.Hour)
				n.mustPublish(p)
				if got := n.content(p)["password"]; got != now() {
					t.Errorf("content with room again = %.16q..., want %.16q...", got, now())
				}
				n.expectBudget(1)
				n.mustUnpublish(p)
				n.expectBudget(0)
			})
		})
	}
}
