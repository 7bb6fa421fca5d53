//go:build attack

package driver_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/portcullis-csi/portcullis/audit"
	auditlog "github.com/portcullis-csi/portcullis/audit/log"
	"github.com/portcullis-csi/portcullis/driver"
	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
	"github.com/portcullis-csi/portcullis/hardening"
)

// count is what a process holds, one figure a kind.
type count map[string]int64

// counted reads what a leak could be seen by, without the heap.
func (n *node) counted() count {
	n.t.Helper()
	c := count{
		"goroutines": int64(runtime.NumGoroutine()), "volumes": int64(len(n.sizes())), "budget": n.inUse(),
		"locks": int64(n.driver.LocksHeld()), "records": int64(n.records.Len()), "refreshes": n.driver.Refreshing(),
		"legacy": n.gauge("portcullis_legacy_volumes"),
	}
	c.descriptors(n.t)
	c.maps(n.t)
	c["mounts"] = int64(strings.Count(read(n.t, "/proc/self/mountinfo"), n.root))
	for line := range strings.Lines(read(n.t, "/proc/self/status")) {
		if value, ok := strings.CutPrefix(line, "VmLck:"); ok {
			c["locked kB"], _ = strconv.ParseInt(strings.Fields(value)[0], 10, 64)
		}
	}
	return c
}

func read(t testing.TB, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// descriptors counts them by kind: what they lead to, without numbers.
func (c count) descriptors(t testing.TB) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		switch {
		case err != nil: // that of the listing itself
		case strings.HasPrefix(to, "/"):
			c["descriptors of files"]++
		default:
			c["descriptors of "+regexp.MustCompile(`\[?\d+\]?`).ReplaceAllString(to, "")]++
		}
	}
}

// maps counts the mappings of files; the others are the runtime's, which keeps
// address space.
func (c count) maps(t testing.TB) {
	t.Helper()
	for line := range strings.Lines(read(t, "/proc/self/maps")) {
		if f := strings.Fields(line); len(f) > 5 && strings.HasPrefix(f[5], "/") {
			c["mappings of files"]++
		}
	}
}

// differs says what two counts differ in.
func (c count) differs(from count) []string {
	var list []string
	for _, kind := range slices.Sorted(maps.Keys(merged(c, from))) {
		if c[kind] != from[kind] {
			list = append(list, fmt.Sprintf("%s: %d, were %d", kind, c[kind], from[kind]))
		}
	}
	return list
}

func merged(a, b count) count {
	both := maps.Clone(a)
	maps.Copy(both, b)
	return both
}

// leaks waits until the counts are those of before: what is behind the calls
// may still be ending. It returns what does not come back.
func (n *node) leaks(before count, patience time.Duration) []string {
	n.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		now := n.counted()
		differs := now.differs(before)
		if len(differs) == 0 || time.Now().After(deadline) {
			return differs
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// heap is what is reachable once everything of the test's own is dropped.
func (n *node) heap() int64 {
	n.provider.Forget()
	n.stderr.mu.Lock()
	n.stderr.text.Reset()
	n.stderr.mu.Unlock()
	for range 3 { // finalizers and pools need more than one
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// replaceable hands events to a recorder that can be replaced.
type replaceable struct {
	now atomic.Pointer[audit.Recorder]
}

func (r *replaceable) Record(ctx context.Context, e audit.Event) error {
	return r.now.Load().Record(ctx, e)
}
func (r *replaceable) Owe(e audit.Event) { r.now.Load().Owe(e) }

func (r *replaceable) Confirm(ctx context.Context, id string) error {
	return r.now.Load().Confirm(ctx, id)
}

// freshLog opens a log in a directory of its own, with a recorder; end closes
// both and says how many events there were.
func (r *replaceable) freshLog(t *testing.T, disk string) (end func() int) {
	t.Helper()
	dir := filepath.Join(disk, "log")
	check(t, os.Mkdir(dir, 0o700))
	logger := slog.New(slog.DiscardHandler)
	l, err := auditlog.Open(auditlog.Config{Dir: filepath.Join(dir, "audit"), Origin: "test/nodes/" + nodeName, Boundary: boundaryLeaf(), Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	recorder, err := audit.New(audit.Config{
		Log: l, Logger: logger, Source: audit.Source{Component: "driver", Version: "test", Cluster: "test", Node: nodeName},
		Timeout: time.Minute, // the other work of this machine is no leak
	})
	if err != nil {
		t.Fatal(err)
	}
	r.now.Store(recorder)
	return func() int {
		if err := recorder.Close(t.Context()); err != nil {
			t.Errorf("close recorder: %v", err)
		}
		size, _, err := l.Tree()
		if err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Errorf("close log: %v", err)
		}
		check(t, os.RemoveAll(dir))
		return int(size)
	}
}

// cycles is a node at work, with its log.
type cycles struct {
	*node
	events  *replaceable
	entered map[string]chan struct{} // by pod: a provider that hangs was reached
	mu      sync.Mutex
	done    map[string]int // cycles by kind
}

const workers = 16

// kinds are what a cycle can be. Most go well.
func kinds() map[string]func(*cycles, pod) error {
	return map[string]func(*cycles, pod) error{
		"mounted": (*cycles).mounted, "rotated": (*cycles).rotated, "provider error": (*cycles).failed, "beyond the grant": (*cycles).failed,
		"too large": (*cycles).failed, "denied": (*cycles).denied, "preempted": (*cycles).preempted, "given up": (*cycles).givenUp,
	}
}

// turns is the order of kinds that each worker repeats.
func turns() []string {
	return []string{
		"mounted", "mounted", "mounted", "provider error", "mounted", "rotated", "mounted", "denied", "mounted", "mounted",
		"preempted", "mounted", "beyond the grant", "rotated", "mounted", "too large", "mounted", "given up", "mounted", "mounted",
	}
}

func newCycles(t *testing.T, protection func(*setup)) *cycles {
	t.Helper()
	c := &cycles{events: &replaceable{}, entered: map[string]chan struct{}{}, done: map[string]int{}}
	var serial atomic.Int64
	handlers := map[string]providertest.Handler{}
	var pods []pod
	for i := range workers {
		for k, kind := range slices.Sorted(maps.Keys(kinds())) {
			p := teamPod(teams()[i%4], i*len(kinds())+k)
			if kind == "denied" {
				p.serviceAccount = "other"
			}
			pods = append(pods, p)
			handlers[p.name] = c.handler(kind, p, &serial)
		}
	}
	c.node = newNode(t, fleetGranted, protection, func(s *setup) {
		s.provider.Handler = byPod(providertest.Files(nil), handlers)
		s.recorder = func(driver.Recorder) driver.Recorder { return c.events }
	})
	c.fleet(pods...)
	c.write("other.yaml", otherAccounts())
	return c
}

func otherAccounts() string {
	var text strings.Builder
	for _, team := range teams() {
		fmt.Fprintf(&text, "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: other, namespace: %s}\n", team)
	}
	return text.String()
}

// handler is the provider of one pod.
func (c *cycles) handler(kind string, p pod, serial *atomic.Int64) providertest.Handler {
	switch kind {
	case "provider error":
		return providertest.Fail(codes.Internal, "down")
	case "beyond the grant":
		return providertest.Files(map[string]string{"password": "x", "user": "x", "more": "x"})
	case "too large":
		return providertest.Files(map[string]string{"password": strings.Repeat("x", 2<<20), "user": "x"})
	case "preempted", "given up":
		entered := make(chan struct{}, 1)
		c.entered[p.uid] = entered
		return func(ctx context.Context, r *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
			entered <- struct{}{}
			return providertest.Hang()(ctx, r)
		}
	default:
		return func(ctx context.Context, r *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
			return providertest.Files(map[string]string{"password": fmt.Sprint("value ", serial.Add(1)), "user": p.name})(ctx, r)
		}
	}
}

// podFor is the pod of a worker for a kind of cycle.
func podFor(worker int, kind string) pod {
	k := slices.Index(slices.Sorted(maps.Keys(kinds())), kind)
	p := teamPod(teams()[worker%4], worker*len(kinds())+k)
	if kind == "denied" {
		p.serviceAccount = "other"
	}
	return p
}

func (c *cycles) mounted(p pod) error {
	if err := c.publish(p); err != nil {
		return err
	}
	return c.unpublish(p)
}

// rotated makes a volume due by its record: the clock is everybody's.
func (c *cycles) rotated(p pod) error {
	if err := c.publish(p); err != nil {
		return err
	}
	rec, _ := c.records.Get(p.uid, volume)
	rec.DueAt = time.Time{}
	c.records.Put(rec)
	before, err := os.ReadFile(filepath.Join(c.target(p), "password"))
	if err != nil {
		return err
	}
	if err := c.publish(p); err != nil {
		return err
	}
	after, err := os.ReadFile(filepath.Join(c.target(p), "password"))
	if err != nil || string(before) == string(after) {
		return fmt.Errorf("content after a rotation = %q, %w", after, err)
	}
	return c.unpublish(p)
}

// failed leaves nothing behind, though no unpublish comes after a final code.
func (c *cycles) failed(p pod) error {
	if err := c.publish(p); status.Code(err) != codes.Unavailable && status.Code(err) != codes.ResourceExhausted {
		return fmt.Errorf("publish = %w, want a refusal", err)
	}
	return nil
}

func (c *cycles) denied(p pod) error {
	if err := c.publish(p); status.Code(err) != codes.PermissionDenied {
		return fmt.Errorf("publish = %w, want a denial", err)
	}
	return nil
}

func (c *cycles) preempted(p pod) error {
	published := make(chan error, 1)
	go func() { published <- c.publish(p) }()
	<-c.entered[p.uid]
	if err := c.unpublish(p); err != nil {
		return err
	}
	if err := <-published; err == nil {
		return fmt.Errorf("publish beside an unpublish = nil, want an error")
	}
	return nil
}

// givenUp is a call whose caller is gone.
func (c *cycles) givenUp(p pod) error {
	ctx, cancel := context.WithCancel(c.t.Context())
	defer cancel()
	published := make(chan error, 1)
	go func() {
		_, err := c.csi.NodePublishVolume(ctx, c.request(p))
		published <- err
	}()
	<-c.entered[p.uid]
	cancel()
	if err := <-published; status.Code(err) != codes.Canceled {
		return fmt.Errorf("publish that was given up = %w", err)
	}
	return c.unpublish(p)
}

// run does so many cycles, sixteen at once.
func (c *cycles) run(total int) {
	c.t.Helper()
	var left atomic.Int64
	left.Store(int64(total))
	var group sync.WaitGroup
	for worker := range workers {
		group.Go(func() {
			for turn := worker; left.Add(-1) >= 0; turn++ {
				kind := turns()[turn%len(turns())]
				if err := kinds()[kind](c, podFor(worker, kind)); err != nil {
					c.t.Errorf("%s of worker %d: %v", kind, worker, err)
					return
				}
				c.mu.Lock()
				c.done[kind]++
				c.mu.Unlock()
			}
		})
	}
	group.Wait()
}

// TestP12NothingLeaks mounts and unmounts ten thousand times with noswap and a
// thousand times with mlock. A part of it fails in every way it can.
func TestP12NothingLeaks(t *testing.T) {
	for protection, total := range map[hardening.Setting]int{hardening.SettingNoswap: 10_000, hardening.SettingMlock: 1000} {
		t.Run(string(protection), func(t *testing.T) {
			const perLog, warmUp, heapGrowth = 2000, 400, 1 << 20
			// Every cycle syncs three times: a disk would be measured here.
			disk := smallDisk(t, "tmpfs")
			c := newCycles(t, func(s *setup) { s.protection = protection })
			end := c.events.freshLog(t, disk)
			c.run(warmUp)
			end()
			end = c.events.freshLog(t, disk)
			if lost := c.leaks(c.idle(), time.Minute); len(lost) > 0 {
				t.Fatalf("after %d cycles: %s", warmUp, strings.Join(lost, "; "))
			}
			before, heap := c.counted(), c.heap()
			for done := 0; done < total; {
				part := min(perLog, total-done)
				c.run(part)
				done += part
				if events := end(); events < 2*part {
					t.Errorf("%d events of %d cycles in the log, want more", events, part)
				}
				end = c.events.freshLog(t, disk)
				lost, grown := c.leaks(before, time.Minute), c.heap()-heap
				t.Logf("%d cycles, heap %+d kB, %v", done, grown>>10, before)
				if len(lost) > 0 || grown > heapGrowth {
					t.Fatalf("after %d cycles the heap has grown by %d bytes; %s", done, grown, strings.Join(lost, "; "))
				}
			}
			end()
			for kind := range kinds() {
				if n := c.done[kind]; n < total/len(turns())/2 {
					t.Errorf("cycles of %q = %d, want its share of %d", kind, n, total)
				}
			}
		})
	}
}

// idle is a count of now in which the driver has nothing.
func (c *cycles) idle() count {
	n := c.counted()
	for _, kind := range []string{"volumes", "budget", "locks", "records", "refreshes", "mounts", "legacy"} {
		n[kind] = 0
	}
	return n
}

// TestP12LeaksWouldBeSeen leaks one of each on purpose.
func TestP12LeaksWouldBeSeen(t *testing.T) {
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		disk := smallDisk(t, "tmpfs")
		c := newCycles(t, protection)
		end := c.events.freshLog(t, disk)
		defer func() { end() }()
		c.run(workers)
		if lost := c.leaks(c.idle(), time.Minute); len(lost) > 0 {
			t.Fatalf("before anything leaks: %s", strings.Join(lost, "; "))
		}
		p := podFor(0, "mounted")
		for kind, leak := range map[string]func(t *testing.T){
			"descriptors of files": func(t *testing.T) {
				f, err := os.Open(c.root)
				check(t, err)
				t.Cleanup(func() { check(t, f.Close()) })
			},
			"descriptors of socket:": func(t *testing.T) {
				fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
				check(t, err)
				t.Cleanup(func() { check(t, unix.Close(fd)) })
			},
			"goroutines": func(t *testing.T) {
				stop := make(chan struct{})
				go func() { <-stop }()
				t.Cleanup(func() { close(stop) })
			},
			"volumes": func(t *testing.T) {
				check(t, c.publish(p))
				t.Cleanup(func() { check(t, c.unpublish(p)) })
			},
			"mounts": func(t *testing.T) {
				dir := filepath.Join(c.root, "elsewhere")
				check(t, os.MkdirAll(dir, 0o700))
				check(t, unix.Mount("leak", dir, "tmpfs", 0, ""))
				t.Cleanup(func() { check(t, unix.Unmount(dir, 0)) })
			},
			"locked kB": func(t *testing.T) {
				mapped, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_POPULATE)
				check(t, err)
				check(t, unix.Mlock(mapped))
				t.Cleanup(func() { check(t, unix.Munmap(mapped)) })
			},
			"mappings of files": func(t *testing.T) {
				f, err := os.Open("/proc/self/exe")
				check(t, err)
				mapped, err := unix.Mmap(int(f.Fd()), 1<<20, 4096, unix.PROT_READ, unix.MAP_SHARED)
				check(t, err)
				check(t, f.Close())
				t.Cleanup(func() { check(t, unix.Munmap(mapped)) })
			},
			"locks": func(t *testing.T) {
				release, err := c.driver.HoldTarget(t.Context(), p.uid, volume)
				check(t, err)
				t.Cleanup(release)
			},
			"records": func(t *testing.T) {
				c.records.Put(driver.Record{PodUID: p.uid, Volume: volume})
				t.Cleanup(func() { c.records.Remove(p.uid, volume) })
			},
			"budget": func(t *testing.T) { t.Cleanup(c.driver.HoldBudget(p.uid, volume, p.namespace, 4096)) },
		} {
			t.Run(kind, func(t *testing.T) {
				before := c.counted()
				leak(t)
				if lost := strings.Join(c.leaks(before, 0), "; "); !strings.Contains(lost, kind+": ") {
					t.Errorf("differences = %q, want one of %q", lost, kind)
				}
			})
		}
		before := c.heap()
		held := make([]byte, 16<<20)
		if grown := c.heap() - before; grown < 8<<20 {
			t.Errorf("the heap has grown by %d bytes with %d held, want it seen", grown, len(held))
		}
		runtime.KeepAlive(held)
	})
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
