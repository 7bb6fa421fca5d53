package driver_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/audittest"
	"github.com/portcullis-csi/portcullis/driver"
	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// confirmAfter is the driver's time between two denials.
const confirmAfter = 10 * time.Second

// deny puts a bundle without grants in force; allow one with them.
func (n *node) deny(options ...policiestest.Option) {
	n.policy.engine.Store(policiestest.Engine(n.t, "", options...))
}
func (n *node) allow() { n.policy.engine.Store(policiestest.Engine(n.t, grants)) }

// later is a republish after so much time.
func (n *node) later(p pod, d time.Duration) error {
	n.clock.advance(d)
	return n.publish(p)
}

func (n *node) mustLater(p pod, d time.Duration) {
	n.t.Helper()
	if err := n.later(p, d); err != nil {
		n.t.Fatalf("NodePublishVolume(%s) = %v, want nil", p.name, err)
	}
}

func (n *node) expectContent(p pod, want map[string]string) {
	n.t.Helper()
	got := n.content(p)
	if len(got) == 0 {
		got = nil
	}
	if diff := cmp.Diff(want, got); diff != "" {
		n.t.Errorf("content of %s (-want +got):\n%s", p.name, diff)
	}
}

func TestP9ADenialRevokesOnceTwoEvaluationsAgree(t *testing.T) {
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		n := newNode(t, protection)
		n.mustPublish(apiPod())
		mounted := mountLines(t, n.target(apiPod()))
		held, err := os.Open(filepath.Join(n.target(apiPod()), "password"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { n.closed(held.Close()) }()
		n.deny()
		n.mustLater(apiPod(), 2*refreshInterval)
		n.expectContent(apiPod(), secretFiles())
		n.mustLater(apiPod(), confirmAfter/2)
		n.expectContent(apiPod(), secretFiles())
		expectStatus(t, n.later(apiPod(), confirmAfter), codes.Unavailable, "the mounted secrets were revoked: denied by policy: PR-001", "; hint: ", "; decision ")
		n.expectContent(apiPod(), nil)
		if got, _ := held.Read(make([]byte, 100)); got != 0 {
			t.Errorf("a file that was open still has %d bytes", got)
		}
		for range 3 {
			n.mustLater(apiPod(), confirmAfter)
		}
		n.expectContent(apiPod(), nil)
		if diff := cmp.Diff(mounted, mountLines(t, n.target(apiPod()))); diff != "" {
			t.Errorf("mount table changed (-before +after):\n%s", diff)
		}
		if calls := n.provider.Calls(); len(calls) != 1 {
			t.Errorf("provider calls = %d, want 1: nothing is fetched for a denied volume", len(calls))
		}
		n.allow()
		n.mustLater(apiPod(), confirmAfter)
		n.expectContent(apiPod(), secretFiles())
		if calls := n.provider.Calls(); len(calls[1].GetCurrentObjectVersion()) != 0 {
			t.Errorf("versions of revoked content were sent: %v", calls[1].GetCurrentObjectVersion())
		}
		events := n.expectEvents("PC2001I intent", "PC2001I complete", "PC2002W  PolicyDenied", "PC2008I  PolicyDenied", "PC2002I", "PC2002I complete")
		if events[3].ParentID != events[2].ID {
			t.Errorf("parent of the revocation = %q, want the denial %q", events[3].ParentID, events[2].ID)
		}
		n.mustUnpublish(apiPod())
		n.expectNothing(apiPod())
	})
}

func TestP9OnlyAgreeingDenialsRevoke(t *testing.T) {
	steps := map[string]func(*node){
		"deny":       func(n *node) { n.deny() },
		"allow":      (*node).allow,
		"no policy":  func(n *node) { n.policy.engine.Store(nil) },
		"clock back": func(n *node) { n.clock.advance(-time.Hour) },
		"clock far":  func(n *node) { n.clock.advance(24 * time.Hour) },
	}
	for name, c := range map[string]struct {
		steps   []string
		revoked bool
	}{
		"two denials":                           {[]string{"deny", "deny"}, true},
		"an error between them changes nothing": {[]string{"deny", "no policy", "deny"}, true},
		"an allow between them":                 {[]string{"deny", "allow", "deny"}, false},
		"errors alone":                          {[]string{"no policy", "no policy", "no policy"}, false},
		"a clock that goes back between them":   {[]string{"deny", "clock back", "deny"}, false},
		"a day between them":                    {[]string{"deny", "clock far", "deny"}, false},
		"after a clock that went back":          {[]string{"deny", "clock back", "deny", "deny"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.mustPublish(apiPod())
			n.clock.advance(2 * refreshInterval)
			for _, step := range c.steps {
				steps[step](n)
				if strings.HasPrefix(step, "clock") {
					continue
				}
				_ = n.later(apiPod(), 2*confirmAfter)
			}
			want := secretFiles()
			if c.revoked {
				want = nil
			}
			n.expectContent(apiPod(), want)
		})
	}
}

func TestP9PolicyCanKeepWhatItDenies(t *testing.T) {
	n := newNode(t)
	n.mustPublish(apiPod())
	n.deny(policiestest.WithConfig("obligations: {on_revoke: keep}"))
	n.clock.advance(2 * refreshInterval)
	for range 4 {
		n.mustLater(apiPod(), 2*confirmAfter)
	}
	n.expectContent(apiPod(), secretFiles())
	if calls := len(n.provider.Calls()); calls != 1 {
		t.Errorf("provider calls = %d, want 1: denied content is not refreshed", calls)
	}
}

func TestP9WhatPolicyKeepsMayStillExpire(t *testing.T) {
	n := newNode(t)
	n.mustPublish(apiPod())
	n.deny(policiestest.WithConfig("obligations: {on_revoke: keep, ttl_seconds: 600, on_expire: scrub}"))
	n.mustLater(apiPod(), 4*time.Minute)
	n.mustLater(apiPod(), 4*time.Minute)
	n.expectContent(apiPod(), secretFiles())
	expectStatus(t, n.later(apiPod(), 4*time.Minute), codes.Unavailable, "their time to live ran out")
	n.expectContent(apiPod(), nil)
}

func TestP8RevocationDoesNotWaitForTheLog(t *testing.T) {
	log := &audittest.Log{}
	n := newNode(t, func(s *setup) { s.events = log })
	n.mustPublish(apiPod())
	release := log.Hang()
	n.deny()
	n.mustLater(apiPod(), 2*refreshInterval)
	expectStatus(t, n.later(apiPod(), confirmAfter), codes.Unavailable, "were revoked")
	n.expectContent(apiPod(), nil)
	if got := len(log.Leaves()); got > 2 {
		t.Errorf("events in a log that hangs = %d, want the 2 of the mount: the log did not hang", got)
	}
	release()
	for len(log.Leaves()) < 4 {
		time.Sleep(time.Millisecond)
	}
	events := log.Events(t)
	codes := []string{string(events[2].Code), string(events[3].Code)}
	slices.Sort(codes) // two queues
	if diff := cmp.Diff([]string{"PC2002W", "PC2008I"}, codes); diff != "" {
		t.Errorf("owed events (-want +got):\n%s", diff)
	}
}

func TestP8RevocationOfAVolumeThatAnswersNoOpen(t *testing.T) {
	n := newNode(t)
	n.mustPublish(apiPod())
	letGo := holdUp(t, n.writable(apiPod()))
	defer letGo()
	n.deny()
	n.mustLater(apiPod(), 2*refreshInterval)
	n.mustLater(apiPod(), confirmAfter)
	events := n.events(4)
	if got := summary(events[3:4]); got != "PC2008E  ScrubIncomplete" {
		t.Errorf("event = %s, want that the volume is not empty", got)
	}
	letGo()
	for n.driver.Refreshing() > 0 {
		time.Sleep(time.Millisecond)
	}
	expectStatus(t, n.later(apiPod(), confirmAfter), codes.Unavailable, "were revoked")
	n.expectContent(apiPod(), nil)
}

func TestRevokedVolumeComesBackWithRotationOff(t *testing.T) {
	n := newNode(t, func(s *setup) { s.rotation = driver.Rotation{} })
	n.mustPublish(apiPod())
	n.deny()
	n.mustLater(apiPod(), 6*time.Minute)
	expectStatus(t, n.later(apiPod(), confirmAfter), codes.Unavailable, "were revoked")
	n.records.Remove(apiUID, volume) // a lost volumes.db must not keep it empty
	if err := n.driver.Recover(nil); err != nil {
		t.Fatal(err)
	}
	n.allow()
	n.mustLater(apiPod(), 6*time.Minute)
	n.expectContent(apiPod(), secretFiles())
	calls := len(n.provider.Calls())
	n.mustLater(apiPod(), 6*time.Minute)
	if got := len(n.provider.Calls()); got != calls {
		t.Errorf("provider calls = %d, want %d: rotation is off", got, calls)
	}
}

// mountMany publishes so many pods.
func (n *node) mountMany(count int) []pod {
	n.t.Helper()
	pods := make([]pod, count)
	for i := range pods {
		pods[i] = numbered(i)
		n.add(pods[i])
		n.mustPublish(pods[i])
	}
	return pods
}

// round is one republish of each pod; it returns how many were revoked by it.
func (n *node) round(pods []pod, after time.Duration) (revoked int) {
	n.t.Helper()
	n.clock.advance(after)
	for _, p := range pods {
		if err := n.publish(p); err != nil {
			expectStatusOf(n.t, err, codes.Unavailable, "were revoked")
			revoked++
		}
	}
	return revoked
}

// emptied counts the pods without content.
func (n *node) emptied(pods []pod) (count int) {
	n.t.Helper()
	for _, p := range pods {
		if len(n.content(p)) == 0 {
			count++
		}
	}
	return count
}

func expectStatusOf(t testing.TB, err error, code codes.Code, words ...string) {
	t.Helper()
	for _, w := range append(words, "code = "+code.String()) {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error = %v, want it to contain %q", err, w)
		}
	}
}

func TestP9TheBrakeHoldsAMassRevocation(t *testing.T) {
	const pods, brake = 24, 5
	n := newNode(t)
	fleet := n.mountMany(pods)
	n.deny()
	if got := n.round(fleet, 2*refreshInterval); got != 0 {
		t.Errorf("revoked after one evaluation = %d, want 0", got)
	}
	for i, want := range []int{brake, 0, 0} {
		if got := n.round(fleet, confirmAfter); got != want {
			t.Errorf("revoked in round %d = %d, want %d", i, got, want)
		}
	}
	// Neither time nor a restart releases it.
	if got := n.round(fleet, 11*time.Minute) + n.round(fleet, 11*time.Minute); got != 0 {
		t.Errorf("revoked after the window = %d, want 0", got)
	}
	if err := n.driver.Recover(nil); err != nil {
		t.Fatal(err)
	}
	if got := n.round(fleet, 11*time.Minute); got != 0 || n.emptied(fleet) != brake {
		t.Errorf("revoked after a restart = %d, empty %d, want 0 and %d", got, n.emptied(fleet), brake)
	}
	if got := n.gauge("portcullis_revocations_held"); got != pods-brake {
		t.Errorf("portcullis_revocations_held = %d, want %d", got, pods-brake)
	}
	n.expectAlarm(pods)
	// What is denied by a bundle that means it goes.
	n.deny(policiestest.WithConfig("mass_revoke: true"))
	if got := n.round(fleet, confirmAfter); got != pods-brake {
		t.Errorf("revoked with mass_revoke = %d, want %d", got, pods-brake)
	}
	n.allow()
	if got := n.round(fleet, confirmAfter); got != 0 || n.emptied(fleet) != 0 {
		t.Errorf("after policy allows again: revoked %d, empty %d, want 0 and 0", got, n.emptied(fleet))
	}
}

// expectAlarm looks for the brake's event about so many volumes.
func (n *node) expectAlarm(denied int64) {
	n.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		for _, e := range n.recorded() {
			if e.Type == audit.TypeMassRevocation && e.Count == denied && e.Severity == audit.SeverityCritical {
				return
			}
		}
		time.Sleep(time.Millisecond)
	}
	n.t.Errorf("no event %s with count %d", audit.TypeMassRevocation, denied)
}

func TestTheBrakeLetsGoWhenFewAreDenied(t *testing.T) {
	n := newNode(t)
	fleet := n.mountMany(24)
	n.deny()
	n.round(fleet, 2*refreshInterval)
	n.round(fleet, confirmAfter)
	n.allow()
	n.round(fleet[:22], confirmAfter)
	n.deny()
	if got := n.round(fleet[22:], confirmAfter); got != 0 {
		t.Errorf("revoked beside five within ten minutes = %d, want 0", got)
	}
	if got := n.round(fleet[22:], 10*time.Minute); got != 2 {
		t.Errorf("revoked once only two are denied = %d, want 2", got)
	}
}

func TestFewDenialsNeedNoBrake(t *testing.T) {
	n := newNode(t)
	fleet := n.mountMany(5)
	n.deny()
	n.round(fleet, 2*refreshInterval)
	if got := n.round(fleet, confirmAfter); got != 5 {
		t.Errorf("revoked = %d, want all five of a small node", got)
	}
}

func TestContentThatOutlivesItsTimeToLive(t *testing.T) {
	for name, c := range map[string]struct {
		config string
		want   map[string]string
		events string
	}{
		"is kept":                      {"ttl_seconds: 100", secretFiles(), "PC2006E  TTLExpired"},
		"is removed where policy asks": {"ttl_seconds: 100, on_expire: scrub", nil, "PC2006E  TTLExpired, PC2008I  TTLExpired"},
		"is kept while it is young":    {"ttl_seconds: 86400, on_expire: scrub", secretFiles(), ""},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, func(s *setup) {
				s.provider.Handler = providertest.InTurn(providertest.Files(secretFiles()), providertest.Fail(codes.Internal, "down"))
				s.policy = []policiestest.Option{policiestest.WithConfig("obligations: {" + c.config + "}")}
			})
			n.mustPublish(apiPod())
			revoked := 0
			for range 8 {
				if err := n.later(apiPod(), time.Minute); err != nil {
					expectStatus(t, err, codes.Unavailable, "their time to live ran out", "; hint: ")
					revoked++
				}
			}
			n.expectContent(apiPod(), c.want)
			if want := strings.Count(c.events, "PC2008I"); revoked != want {
				t.Errorf("calls that said so = %d, want %d", revoked, want)
			}
			n.expectTTLEvents(c.events)
		})
	}
}

// expectTTLEvents compares what is recorded of times to live.
func (n *node) expectTTLEvents(want string) {
	n.t.Helper()
	n.events(3)
	var got []audit.Event
	for range 1000 {
		got = nil
		for _, e := range n.recorded() {
			if e.Type == audit.TypeTTLMissed || e.Type == audit.TypeRevoke {
				got = append(got, e)
			}
		}
		if summary(got) == want {
			return
		}
		time.Sleep(time.Millisecond)
	}
	n.t.Errorf("events = %s, want %s", summary(got), want)
}

func TestTimeWithoutAVerdictCountsForNoTimeToLive(t *testing.T) {
	n := newNode(t, func(s *setup) {
		s.provider.Handler = providertest.InTurn(providertest.Files(secretFiles()), providertest.Fail(codes.Internal, "down"))
		s.policy = []policiestest.Option{policiestest.WithConfig("obligations: {ttl_seconds: 3600, on_expire: scrub}")}
	})
	n.mustPublish(apiPod())
	engine := n.policy.engine.Load()
	n.policy.engine.Store(nil)
	for range 30 {
		n.mustLater(apiPod(), 5*time.Minute)
	}
	n.policy.engine.Store(engine)
	for range 9 {
		n.mustLater(apiPod(), 6*time.Minute)
	}
	n.expectContent(apiPod(), secretFiles())
	// A plugin that was down for long decided nothing either.
	n.mustLater(apiPod(), 100*time.Hour)
	n.expectContent(apiPod(), secretFiles())
	expectStatus(t, n.later(apiPod(), 6*time.Minute), codes.Unavailable, "their time to live ran out")
	n.expectContent(apiPod(), nil)
}

func TestADueTimeFarAheadIsOfAClockThatWasWrong(t *testing.T) {
	n := newNode(t)
	n.clock.advance(1000 * time.Hour)
	n.mustPublish(apiPod())
	n.clock.advance(-1000 * time.Hour)
	n.mustPublish(apiPod())
	if calls := len(n.provider.Calls()); calls != 2 {
		t.Errorf("provider calls = %d, want 2: a clock that was set back must not stop refreshes", calls)
	}
	n.mustPublish(apiPod())
	if calls := len(n.provider.Calls()); calls != 2 {
		t.Errorf("provider calls = %d, want 2: the next is not due", calls)
	}
}
