package driver_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/driver/provider"
	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
)

// sleeper answers when it is told to, whatever became of the call, and says
// when it began and when it ended.
type sleeper struct {
	begun, wake, ended chan struct{}
}

func newSleeper() *sleeper {
	return &sleeper{make(chan struct{}), make(chan struct{}), make(chan struct{})}
}

// answer is a complete reply, too late.
func (s *sleeper) answer(context.Context, *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
	close(s.begun)
	defer close(s.ended)
	<-s.wake
	return providertest.Response(map[string]string{"password": spill, "user": spill}), nil
}

// watch looks at a target over and over, and keeps every state that it saw.
type watch struct {
	stop, done chan struct{}

	mu    sync.Mutex
	looks int
	saw   map[string]int
}

func (n *node) watch(p pod) *watch {
	w := &watch{stop: make(chan struct{}), done: make(chan struct{}), saw: map[string]int{}}
	target := n.target(p)
	go func() {
		defer close(w.done)
		for {
			w.look(glance(target))
			select {
			case <-w.stop:
				return
			case <-time.After(200 * time.Microsecond):
			}
		}
	}()
	return w
}

func (w *watch) look(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looks++
	w.saw[what]++
}

// times counts the looks that saw something with these words.
func (w *watch) times(words string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for what, times := range w.saw {
		if strings.Contains(what, words) {
			n += times
		}
	}
	return n
}

// glance is what is at a target: its generation, other entries, or nothing.
func glance(target string) string {
	if generation, err := os.Readlink(filepath.Join(target, "..data")); err == nil {
		password, _ := os.ReadFile(filepath.Join(target, "password"))
		return "generation " + generation + " with " + string(password)
	}
	entries, _ := os.ReadDir(target)
	if len(entries) > 0 {
		return fmt.Sprint("entries ", entries)
	}
	if table, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(table), " "+target+" ") {
		return "a mount"
	}
	return "nothing"
}

// end stops the watch and returns what was seen.
func (w *watch) end() map[string]int {
	close(w.stop)
	<-w.done
	return w.saw
}

// givenUp are the ways in which a call ends before its provider answers.
func givenUp() map[string]struct {
	end       func(n *node, p pod, cancel func()) // makes it end
	code      codes.Code                          // of the first publish
	reason    audit.Reason
	unmounted bool // the volume is gone afterwards
	change    func(*setup)
} {
	type way = struct {
		end       func(n *node, p pod, cancel func())
		code      codes.Code
		reason    audit.Reason
		unmounted bool
		change    func(*setup)
	}
	asEver := func(*setup) {}
	return map[string]way{
		"after the deadline": {func(*node, pod, func()) {}, codes.DeadlineExceeded, audit.ReasonDeadlineExceeded, false, soonOver},
		"after the caller gave up": {func(_ *node, _ pod, cancel func()) { cancel() },
			codes.Canceled, audit.ReasonAborted, false, asEver},
		"after an unpublish": {func(n *node, p pod, _ func()) { n.mustUnpublish(p) },
			codes.Aborted, audit.ReasonAborted, true, asEver},
	}
}

// soonOver gives up on providers after half a second, of which a busy machine
// may need more for a decent one: see mustPublishAtLast.
func soonOver(c *setup) {
	c.deliverer = func(d *provider.Config) { d.Timeout = 500 * time.Millisecond }
}

// mustPublishAtLast publishes as often as it takes.
func (n *node) mustPublishAtLast(p pod) {
	n.t.Helper()
	waitFor(n.t, func() bool { return n.publish(p) == nil })
}

// TestP8AnAnswerThatComesTooLateMountsNothing watches the target from the
// beginning until the provider has really finished, and another call after it.
func TestP8AnAnswerThatComesTooLateMountsNothing(t *testing.T) {
	for name, way := range givenUp() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bothProtections(t, func(t *testing.T, protection func(*setup)) {
				t.Parallel()
				var s script
				n := newNode(t, protection, s.follow, way.change)
				p, late := numbered(1), newSleeper()
				n.add(p)
				s.set(p, late.answer)
				w := n.watch(p)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				published := make(chan error, 1)
				go func() {
					_, err := n.csi.NodePublishVolume(ctx, n.request(p))
					published <- err
				}()
				<-late.begun
				way.end(n, p, cancel)
				err := <-published
				if way.code == codes.Canceled {
					expectStatus(t, err, way.code) // the client's own words
				} else {
					expectStatus(t, err, way.code, "; hint: ")
				}
				n.expectEnd(p, 2, audit.TypeMount, way.reason)
				close(late.wake)
				<-late.ended
				n.control(t)
				if saw := w.end(); len(saw) != 1 || saw["nothing"] != w.looks {
					t.Errorf("in %d looks at the target: %v, want nothing each time", w.looks, saw)
				}
				n.checkSpill(err)
				n.mustUnpublish(apiPod())
				n.expectNothing(p)
			})
		})
	}
}

// control publishes the fixture's pod from the same provider, over the same
// connection, under a watch of its own: whatever was sent before it has
// arrived by then, and a watch does see a volume.
func (n *node) control(t *testing.T) {
	t.Helper()
	w := n.watch(apiPod())
	n.mustPublishAtLast(apiPod())
	waitFor(t, func() bool { return w.times(canary) > 0 })
	w.end()
}

// TestP9AnAnswerThatComesTooLateChangesNothing: the same on a rotation.
func TestP9AnAnswerThatComesTooLateChangesNothing(t *testing.T) {
	for name, way := range givenUp() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bothProtections(t, func(t *testing.T, protection func(*setup)) {
				t.Parallel()
				var s script
				n := newNode(t, protection, s.follow, way.change)
				p, late := numbered(1), newSleeper()
				n.add(p)
				n.mustPublishAtLast(p)
				before, state := n.look(p), glance(n.target(p))
				s.set(p, late.answer)
				n.clock.advance(2 * refreshInterval)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				w := n.watch(p)
				republished := make(chan error, 1)
				go func() {
					_, err := n.csi.NodePublishVolume(ctx, n.request(p))
					republished <- err
				}()
				<-late.begun
				if way.unmounted {
					if saw := w.end(); len(saw) != 1 || saw[state] != w.looks {
						t.Errorf("before the unpublish: %v, want %q each time", saw, state)
					}
				}
				way.end(n, p, cancel)
				if way.unmounted {
					w, state = n.watch(p), "nothing"
				}
				err := <-republished
				if want := codes.OK; way.code != codes.Canceled {
					expectStatus(t, err, want)
				}
				waitFor(t, func() bool { return n.driver.Refreshing() == 0 })
				close(late.wake)
				<-late.ended
				n.control(t)
				if saw := w.end(); len(saw) != 1 || saw[state] != w.looks {
					t.Errorf("in %d looks at the target: %v, want %q each time", w.looks, saw, state)
				}
				n.mustUnpublish(apiPod())
				if way.unmounted {
					n.expectNothing(p)
					if rec, known := n.records.Get(p.uid, volume); known {
						t.Errorf("record of an unmounted volume: %+v", rec)
					}
				} else {
					n.expectSame(p, before)
				}
				n.checkSpill(err)
			})
		})
	}
}

// TestP8AnUnpublishBesideAReply lets the two meet: the delay between them
// follows the outcomes, so that both come first again and again.
func TestP8AnUnpublishBesideAReply(t *testing.T) {
	const least, most = 10, 2000
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		var s script
		n := newNode(t, protection, s.follow)
		p := apiPod()
		var mounted, preempted int
		delay := time.Millisecond
		for round := 0; (mounted < least || preempted < least) && round < most; round++ {
			met := newSleeper()
			s.set(p, met.answer)
			published := make(chan error, 1)
			go func() { published <- n.publish(p) }()
			<-met.begun
			close(met.wake)
			time.Sleep(delay)
			n.mustUnpublish(p)
			if err := <-published; err == nil {
				mounted++
				delay = delay * 4 / 5
			} else {
				if code := status.Code(err); code != codes.Unavailable && code != codes.Aborted {
					t.Errorf("a publish that an unpublish went before = %v, want Unavailable or Aborted", err)
				}
				preempted++
				delay = delay*6/5 + 10*time.Microsecond
			}
			n.expectNothing(p)
			if _, known := n.records.Get(p.uid, volume); known {
				t.Fatal("a volume that was unmounted has a record")
			}
		}
		if mounted < least || preempted < least {
			t.Errorf("the publish came first %d times and the unpublish %d times: they hardly met", mounted, preempted)
		}
		n.expectNoPanic()
	})
}

// stubborn never answers before its test ends, whatever became of the call.
func stubborn(t *testing.T) (providertest.Handler, *atomic.Int64) {
	end, running := make(chan struct{}), new(atomic.Int64)
	t.Cleanup(func() { close(end) })
	return func(context.Context, *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
		running.Add(1)
		<-end
		return nil, context.Canceled
	}, running
}

// otherGrants let payments/api have the same two objects of provider other.
const otherGrants = grants + `
- id: G-2
  owner: team-payments
  expiry: 2126-12-31
  namespaces: [payments]
  serviceAccounts: [api]
  provider: other
  secrets: ["other://default/payments/*"]
`

// addClass adds a class like db for another provider.
func (n *node) addClass(name, provider string) {
	n.t.Helper()
	_, class, _ := strings.Cut(objects, "---\napiVersion: secrets-store")
	n.write("class-"+name+".yaml", strings.NewReplacer("{name: db,", "{name: "+name+",", "provider: local", "provider: "+provider).
		Replace("apiVersion: secrets-store"+class))
}

// TestP8OneHungProviderDelaysNobodyElse: while every slot of one provider is
// taken by calls that never end, and more wait for them, the pods of another
// come and go, and those of the hung one can go.
func TestP8OneHungProviderDelaysNobodyElse(t *testing.T) {
	const slots, pods, rounds = 2, 6, 10
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		var s script
		n := newNode(t, protection, s.follow, func(c *setup) {
			c.grants = otherGrants
			c.deliverer = func(d *provider.Config) { d.Concurrency = slots }
		})
		other := providertest.Start(t, providertest.Config{Handler: providertest.Files(secretFiles()), Name: "other", Dir: n.provider.Dir})
		n.addClass("other", "other")

		// A pod of the hung provider that is mounted already.
		mounted := numbered(99)
		n.add(mounted)
		n.mustPublish(mounted)
		hang, running := stubborn(t)
		s.set(mounted, hang)

		var hung []pod
		results := make(chan error, pods)
		for i := range pods {
			p := numbered(i)
			n.add(p)
			s.set(p, hang)
			hung = append(hung, p)
			go func() { results <- n.publish(p) }()
		}
		waitFor(t, func() bool { return running.Load() == slots })

		n.mustPublish(mounted) // not due: nobody is asked
		for i := range rounds {
			p := numbered(1000 + i)
			p.attributes = map[string]string{"secretProviderClass": "other"}
			n.add(p)
			n.mustPublish(p)
			if diff := cmp.Diff(secretFiles(), n.content(p)); diff != "" {
				t.Errorf("content beside a hung provider (-want +got):\n%s", diff)
			}
			n.clock.advance(2 * refreshInterval)
			n.mustPublish(p)
			n.mustUnpublish(p)
		}
		if got := len(other.Calls()); got != 2*rounds {
			t.Errorf("calls of the other provider = %d, want %d", got, 2*rounds)
		}
		if got := running.Load(); got != slots || len(results) > 0 {
			t.Errorf("%d calls hang and %d publishes have ended, want %d and none: the provider did not hang", got, len(results), slots)
		}
		// The mounted one is due, and waits for a slot as well.
		refreshed := make(chan error, 1)
		go func() { refreshed <- n.publish(mounted) }()
		waitFor(t, func() bool { return n.driver.Refreshing() == 1 })
		if diff := cmp.Diff(secretFiles(), n.content(mounted)); diff != "" {
			t.Errorf("content during a refresh that hangs (-want +got):\n%s", diff)
		}
		n.unpublishHung(t, append(hung, mounted))
		for range hung {
			expectStatus(t, <-results, codes.Aborted, "; hint: ")
		}
		if err := <-refreshed; err != nil {
			t.Errorf("republish beside an unpublish = %v, want nil", err)
		}
		// The slots are free again, although the provider still runs the calls.
		n.mustPublish(apiPod())
		n.mustUnpublish(apiPod())
		n.expectNothing(mounted)
	})
}

// unpublishHung unmounts all at once while their provider hangs.
func (n *node) unpublishHung(t *testing.T, pods []pod) {
	t.Helper()
	var wg sync.WaitGroup
	for _, p := range pods {
		wg.Go(func() {
			if err := n.unpublish(p); err != nil {
				t.Errorf("NodeUnpublishVolume(%s) = %v, want nil", p.name, err)
			}
		})
	}
	wg.Wait()
	for _, p := range pods {
		if lines := mountLines(t, n.target(p)); len(lines) > 0 {
			t.Errorf("still mounted: %q", lines)
		}
	}
}
