package driver_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/portcullis-csi/portcullis/driver/provider"
	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
)

// wordy is content of several frames, with the spill in each.
func wordy() map[string]string {
	return map[string]string{"password": strings.Repeat(spill+" ", 2000), "user": spill}
}

// expectBroken checks the reply to a call whose provider broke off.
func expectBroken(t *testing.T, err error) {
	t.Helper()
	code := status.Code(err)
	if code != codes.Unavailable && code != codes.DeadlineExceeded {
		t.Errorf("code = %v, want Unavailable or DeadlineExceeded: neither is final", code)
	}
	expectStatus(t, err, code, `fetch from provider "`, "; hint: ")
}

// odd is the name of one of many providers, and of its class.
func odd(i int) string { return fmt.Sprint("odd-", i) }

// withOdd grants payments/api the same two objects of so many providers.
func withOdd(many int) func(*setup) {
	return func(c *setup) {
		other := strings.TrimPrefix(otherGrants, grants)
		for i := range many {
			c.grants += strings.NewReplacer("G-2", "G-"+odd(i), "other", odd(i)).Replace(other)
		}
	}
}

// addOdd adds the classes of those providers, and a pod for each.
func (n *node) addOdd(many int) {
	n.t.Helper()
	for i := range many {
		n.addClass(odd(i), odd(i))
		n.add(oddPod(i))
	}
}

func oddPod(i int) pod {
	p := numbered(i)
	p.attributes = map[string]string{"secretProviderClass": odd(i)}
	return p
}

// TestP4AProviderThatClosesHalfWay closes the connection in every part of a
// reply, from its headers to its trailers. Whatever was there of the secrets by
// then, nothing comes of it.
func TestP4AProviderThatClosesHalfWay(t *testing.T) {
	whole := replyBytes(t)
	cuts := []int{100, 150, 300}
	for at := 1000; at < whole-25; at += whole / 7 {
		cuts = append(cuts, at)
	}
	for back := 25; back >= 1; back -= 3 {
		cuts = append(cuts, whole-back)
	}
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		n := newNode(t, protection, withOdd(len(cuts)))
		n.addOdd(len(cuts))
		for i, at := range cuts {
			t.Run(fmt.Sprintf("%d of %d", at, whole), func(t *testing.T) { n.closesHalfWay(t, i, at) })
		}
		n.checkSpill(nil)
	})
}

// closesHalfWay mounts from a provider that cuts its replies, then from a
// decent one, and then refreshes from the first again.
func (n *node) closesHalfWay(t *testing.T, i, at int) {
	p := oddPod(i)
	broken := providertest.Config{Handler: providertest.Files(wordy()), Name: odd(i), Dir: n.provider.Dir, CutAfter: at}
	first := providertest.Start(t, broken)
	expectBroken(t, n.publish(p))
	if got := glance(n.target(p)); got != "nothing" {
		t.Errorf("cut at %d: after a refusal there is %s, want nothing", at, got)
	}
	first.Stop()
	decent := providertest.Start(t, providertest.Config{Handler: providertest.Files(secretFiles()), Name: odd(i), Dir: n.provider.Dir})
	if err := n.publish(p); err != nil {
		t.Errorf("cut at %d: NodePublishVolume() from a decent provider = %v, want nil", at, err)
	}
	before, failures := glance(n.target(p)), n.failures(p)
	decent.Stop()
	second := providertest.Start(t, broken)
	n.clock.advance(2 * refreshInterval)
	if err := n.publish(p); err != nil {
		t.Errorf("cut at %d: republish = %v, want nil", at, err)
	}
	if got := glance(n.target(p)); got != before || !strings.Contains(got, canary) {
		t.Errorf("cut at %d: after a refresh that failed there is %s, want %s", at, got, before)
	}
	if got := n.failures(p); got != failures+1 || second.Written() == 0 {
		t.Errorf("cut at %d: failed refreshes = %d, bytes written = %d, want %d and some: the provider was not asked", at, got, second.Written(), failures+1)
	}
	if err := n.unpublish(p); err != nil {
		t.Errorf("cut at %d: NodeUnpublishVolume() = %v, want nil", at, err)
	}
}

func (n *node) failures(p pod) int {
	rec, _ := n.records.Get(p.uid, volume)
	if !rec.Denial.Last.IsZero() {
		return rec.Failures + 1 // a denial counts for the revocation
	}
	return rec.Failures
}

// replyBytes is what a provider writes for one whole reply. It is the control
// of the cuts: with room for more than that, also for what HTTP/2 says of
// windows and settings meanwhile, the same reply is delivered.
func replyBytes(t *testing.T) int {
	t.Helper()
	n := newNode(t, func(c *setup) { c.provider.Handler = providertest.Files(wordy()) })
	n.mustPublish(apiPod())
	if diff := cmp.Diff(wordy(), n.content(apiPod())); diff != "" {
		t.Error("the content did not arrive whole without a cut")
	}
	whole := int(n.provider.Written())
	n.mustUnpublish(apiPod())
	uncut := newNode(t, func(c *setup) { c.provider.Handler, c.provider.CutAfter = providertest.Files(wordy()), 10*whole })
	uncut.mustPublish(apiPod())
	uncut.mustUnpublish(apiPod())
	return whole
}

// plant puts something in the place of the provider's socket.
func (n *node) plant(put func(path string) error) {
	n.t.Helper()
	if err := errors.Join(os.Rename(n.provider.Path, n.provider.Path+".real"), put(n.provider.Path)); err != nil {
		n.t.Fatal(err)
	}
}

// TestP5PlantedSocketsGetNoRequest: a request has a pod's tokens in it. The
// socket is exchanged while a connection to the real one is open.
func TestP5PlantedSocketsGetNoRequest(t *testing.T) {
	listening := func(c providertest.Config) func(*testing.T, *node) *providertest.Provider {
		return func(t *testing.T, n *node) *providertest.Provider {
			var p *providertest.Provider
			n.plant(func(path string) error {
				c.Handler, c.Dir = providertest.Files(wordy()), filepath.Dir(path)
				if c.RunAs != 0 { // who may make a socket there
					if err := os.Chmod(c.Dir, 0o777); err != nil {
						return err
					}
				}
				p = providertest.Start(t, c)
				return nil
			})
			return p
		}
	}
	for name, put := range map[string]func(*testing.T, *node) *providertest.Provider{
		"writable by everybody": listening(providertest.Config{Mode: 0o666}),
		"writable by the group": listening(providertest.Config{Mode: 0o620}),
		"owned by another user": listening(providertest.Config{Owner: 65532}),
		"another user listens":  listening(providertest.Config{RunAs: 65532}),
		"another user behind root's file": func(t *testing.T, n *node) *providertest.Provider {
			p := listening(providertest.Config{RunAs: 65532})(t, n)
			if err := os.Chown(p.Path, 0, 0); err != nil {
				t.Fatal(err)
			}
			return p
		},
		"link to a decent one": func(t *testing.T, n *node) *providertest.Provider {
			p := providertest.New(t, providertest.Files(wordy()))
			n.plant(func(path string) error { return os.Symlink(p.Path, path) })
			return p
		},
		"regular file": func(t *testing.T, n *node) *providertest.Provider {
			n.plant(func(path string) error { return os.WriteFile(path, []byte(spill), 0o600) })
			return providertest.New(t, providertest.Files(wordy())) // nobody's
		},
	} {
		t.Run(name, func(t *testing.T) {
			bothProtections(t, func(t *testing.T, protection func(*setup)) {
				n := newNode(t, protection)
				n.mustPublish(apiPod())
				before := n.look(apiPod())
				planted := put(t, n)
				second := numbered(1)
				n.add(second)
				err := n.publish(second)
				expectStatus(t, err, codes.Unavailable, "the socket is not trusted", "; hint: ", "--provider-uid")
				if got := glance(n.target(second)); got != "nothing" {
					t.Errorf("after a refusal there is %s, want nothing", got)
				}
				n.expectEnd(second, 2, "secret.mount", "ProviderUntrusted")
				n.clock.advance(2 * refreshInterval)
				n.mustPublish(apiPod())
				n.expectSame(apiPod(), before)
				n.expectEnd(apiPod(), 4, "secret.rotate", "ProviderUntrusted")
				if calls := len(planted.Calls()); calls != 0 {
					t.Errorf("the planted socket got %d requests, want none", calls)
				}
				n.checkSpill(err)
				// With the real one back, it goes on.
				if err := errors.Join(os.Remove(n.provider.Path), os.Rename(n.provider.Path+".real", n.provider.Path)); err != nil {
					t.Fatal(err)
				}
				n.mustPublish(second)
			})
		})
	}
}

// TestProviderOfAnotherUser: a provider that runs as 65532, as they do that
// need no root, is asked if --provider-uid names it and not otherwise.
func TestProviderOfAnotherUser(t *testing.T) {
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		for _, uids := range [][]int{nil, {65533}, {65532}} {
			t.Run(fmt.Sprint(uids), func(t *testing.T) {
				n := newNode(t, protection, func(c *setup) {
					c.provider.Handler = providertest.InTurn(providertest.Files(secretFiles()), providertest.Files(newContent()))
					c.provider.RunAs = 65532
					c.deliverer = func(d *provider.Config) { d.ProviderUIDs = uids }
				})
				if len(uids) == 0 || uids[0] != 65532 {
					expectStatus(t, n.publish(apiPod()), codes.Unavailable, "the socket is not trusted", "--provider-uid")
					n.expectNothing(apiPod())
					if calls := len(n.provider.Calls()); calls != 0 {
						t.Errorf("the provider got %d requests, want none", calls)
					}
					return
				}
				n.mustPublish(apiPod())
				if diff := cmp.Diff(secretFiles(), n.content(apiPod())); diff != "" {
					t.Errorf("content (-want +got):\n%s", diff)
				}
				n.clock.advance(2 * refreshInterval)
				n.mustPublish(apiPod())
				if diff := cmp.Diff(newContent(), n.content(apiPod())); diff != "" {
					t.Errorf("content after a rotation (-want +got):\n%s", diff)
				}
			})
		}
	})
}
