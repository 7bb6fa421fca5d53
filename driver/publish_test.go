package driver_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

func bothProtections(t *testing.T, f func(*testing.T, func(*setup))) {
	for _, p := range []hardening.Setting{hardening.SettingNoswap, hardening.SettingMlock} {
		t.Run(string(p), func(t *testing.T) {
			f(t, func(s *setup) { s.protection = p })
		})
	}
}

func ownerOf(t testing.TB, info os.FileInfo) *syscall.Stat_t {
	t.Helper()
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		t.Fatalf("no owner in the status of %s", info.Name())
	}
	return st
}

func TestPublishDeliversWhatWasGranted(t *testing.T) {
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		n := newNode(t, protection)
		n.mustPublish(apiPod())
		if diff := cmp.Diff(secretFiles(), n.content(apiPod())); diff != "" {
			t.Errorf("content (-want +got):\n%s", diff)
		}
		for name := range secretFiles() {
			info, err := os.Stat(filepath.Join(n.target(apiPod()), name))
			if err != nil {
				t.Fatal(err)
			}
			owner := ownerOf(t, info)
			if info.Mode() != 0o440 || owner.Uid != 0 || owner.Gid != 2000 {
				t.Errorf("%s is %v %d:%d, want 0440 0:2000", name, info.Mode(), owner.Uid, owner.Gid)
			}
		}
		lines := mountLines(t, n.target(apiPod()))
		if len(lines) != 1 || !strings.Contains(lines[0], " ro,nosuid,nodev,noexec") || !strings.Contains(lines[0], " tmpfs "+hardening.Marker+" ") {
			t.Errorf("mount table = %q, want one read-only tmpfs of ours", lines)
		}
		n.mustUnpublish(apiPod())
		if lines := mountLines(t, n.target(apiPod())); len(lines) > 0 {
			t.Errorf("after unpublish: %q", lines)
		}
		if _, err := os.Lstat(n.target(apiPod())); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("target directory after unpublish: %v, want none", err)
		}
		n.mustUnpublish(apiPod())
		n.expectEvents("PC2001I intent", "PC2001I complete", "PC2003I")
	})
}

func TestPublishWithoutAGroupIsForEverybodyToRead(t *testing.T) {
	n := newNode(t)
	p := apiPod()
	p.fsGroup = ""
	n.add(p)
	n.mustPublish(p)
	info, err := os.Stat(filepath.Join(n.target(p), "password"))
	if err != nil {
		t.Fatal(err)
	}
	if owner := ownerOf(t, info); info.Mode() != 0o444 || owner.Gid != 0 {
		t.Errorf("password is %v of group %d, want 0444 of group 0", info.Mode(), owner.Gid)
	}
}

func TestP1TheDecisionIsDurableBeforeTheFetch(t *testing.T) {
	var n *node
	n = newNode(t, func(s *setup) {
		s.provider.Handler = func(ctx context.Context, r *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
			if got := summary(n.recorded()); got != "PC2001I intent" {
				t.Errorf("log at the time of the fetch = %q, want the intent", got)
			}
			if len(mountLines(t, n.target(apiPod()))) > 0 {
				t.Error("something was mounted before the fetch")
			}
			return providertest.Files(secretFiles())(ctx, r)
		}
	})
	n.mustPublish(apiPod())
	events := n.expectEvents("PC2001I intent", "PC2001I complete")
	if events[1].ParentID != events[0].ID || len(events[0].Secrets) != 2 || len(events[1].Files) != 2 {
		t.Errorf("the end does not belong to the intent: %+v", events)
	}
}

func TestP1NoEventNoSecret(t *testing.T) {
	n := newNode(t)
	n.log.broken.Store(true)
	err := n.publish(apiPod())
	expectStatus(t, err, codes.Unavailable, "audit log")
	if calls := len(n.provider.Calls()); calls != 0 {
		t.Errorf("the provider was called %d times, want 0", calls)
	}
	n.expectNothing(apiPod())
	n.log.broken.Store(false)
	n.mustPublish(apiPod())
}

func expectStatus(t *testing.T, err error, code codes.Code, words ...string) {
	t.Helper()
	s := status.Convert(err)
	if s.Code() != code {
		t.Errorf("code = %v (%s), want %v", s.Code(), s.Message(), code)
	}
	for _, w := range words {
		if !strings.Contains(s.Message(), w) {
			t.Errorf("text = %q, want it to contain %q", s.Message(), w)
		}
	}
	if strings.Contains(s.Message(), canary) || len(s.Message()) > 700 {
		t.Errorf("text = %q, want at most 700 bytes and no provider text", s.Message())
	}
}

// expectNothing checks that a refused publish left the target as it was.
func (n *node) expectNothing(p pod) {
	n.t.Helper()
	if lines := mountLines(n.t, n.target(p)); len(lines) > 0 {
		n.t.Errorf("mounted after a refusal: %q", lines)
	}
	if got := n.content(p); len(got) > 0 {
		n.t.Errorf("files after a refusal: %q", got)
	}
	if used := n.gauge("portcullis_volume_budget_used_bytes"); used != 0 {
		n.t.Errorf("budget in use after a refusal = %d, want 0", used)
	}
}

func TestPublishWithoutAGrantIsRefused(t *testing.T) {
	n := newNode(t, func(s *setup) { s.grants = "" })
	expectStatus(t, n.publish(apiPod()), codes.PermissionDenied, "denied by policy: PR-001", "; hint: ", "; decision ")
	if calls := len(n.provider.Calls()); calls != 0 {
		t.Errorf("the provider was called %d times, want 0", calls)
	}
	n.expectNothing(apiPod())
	n.expectEvents("PC2001W  PolicyDenied")
}

func TestBudgetsComeBeforeTheProvider(t *testing.T) {
	// A namespace has 2.5 MiB; a volume may need 2 MiB, and takes twice its
	// content once that is known.
	const half = 512 << 10
	n := newNode(t, func(s *setup) {
		s.maxNode = 10 << 20
		s.provider.Handler = providertest.Files(map[string]string{"password": strings.Repeat("x", half), "user": "app"})
	})
	n.mustPublish(apiPod())
	used := n.gauge("portcullis_volume_budget_used_bytes")
	if used < 2*half || used > 2*half+64<<10 {
		t.Errorf("budget in use = %d, want twice the content and a little", used)
	}
	second := apiPod()
	second.name, second.uid = "api-1", "22222222-2222-4222-8222-222222222222"
	n.add(second)
	expectStatus(t, n.publish(second), codes.ResourceExhausted, "the memory budget of namespace payments is used up", "--max-node-bytes")
	if calls := len(n.provider.Calls()); calls != 1 {
		t.Errorf("provider calls = %d, want 1: the refusal must come before the fetch", calls)
	}
	if got := n.gauge("portcullis_volume_budget_used_bytes"); got != used {
		t.Errorf("budget in use after a refusal = %d, want %d", got, used)
	}
	n.mustUnpublish(apiPod())
	n.mustPublish(second)
}

func TestRotationGrowsAVolumeWithinTheBudget(t *testing.T) {
	big := map[string]string{"password": strings.Repeat("x", 900<<10), "user": "app"}
	n := newNode(t, func(s *setup) {
		s.provider.Handler = providertest.InTurn(providertest.Files(secretFiles()), providertest.Files(big), providertest.Files(secretFiles()))
	})
	n.mustPublish(apiPod())
	small := n.gauge("portcullis_volume_budget_used_bytes")
	n.clock.advance(2 * refreshInterval)
	n.mustPublish(apiPod())
	if diff := cmp.Diff(big, n.content(apiPod())); diff != "" {
		t.Error("the larger content did not arrive")
	}
	if grown := n.gauge("portcullis_volume_budget_used_bytes"); grown < 1800<<10 {
		t.Errorf("budget in use = %d, want it to have grown from %d", grown, small)
	}
	n.clock.advance(2 * refreshInterval)
	n.mustPublish(apiPod())
	if got := n.gauge("portcullis_volume_budget_used_bytes"); got != small {
		t.Errorf("budget in use after shrinking = %d, want %d as at first", got, small)
	}
}

func TestPublishWithoutPolicyGrantsNothing(t *testing.T) {
	n := newNode(t)
	n.policy.engine.Store(nil)
	expectStatus(t, n.publish(apiPod()), codes.Unavailable, "NoBundle", "; hint: ")
	n.expectNothing(apiPod())
	n.expectEvents("PC2001E  NoBundle")
}

func TestP5AProviderThatWritesByItselfLeavesNothingOnDisk(t *testing.T) {
	var n *node
	n = newNode(t, func(s *setup) {
		s.provider.Handler = func(ctx context.Context, r *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
			// It cannot know the target from the request; a hostile one guesses.
			if strings.Contains(r.GetTargetPath(), n.root) {
				t.Errorf("target_path = %q names the real target", r.GetTargetPath())
			}
			if err := os.MkdirAll(n.target(apiPod()), 0o755); err != nil {
				t.Error(err)
			}
			if err := os.WriteFile(filepath.Join(n.target(apiPod()), "password"), []byte(canary), 0o644); err != nil {
				t.Error(err)
			}
			return providertest.Files(secretFiles())(ctx, r)
		}
	})
	expectStatus(t, n.publish(apiPod()), codes.Unavailable, "wrote into the target", "--driver-writes-secrets=true")
	n.expectNothing(apiPod())
	n.expectEvents("PC2001I intent", "PC9001E  ProviderWroteTarget", "PC2001E complete ProviderWroteTarget")
}

func TestPublishFailuresOfTheProvider(t *testing.T) {
	for name, c := range map[string]struct {
		handler providertest.Handler
		code    codes.Code
		event   string
	}{
		"its error text stays inside": {providertest.Fail(codes.Internal, "cannot parse "+canary), codes.Unavailable, "PC2001E complete ProviderError"},
		"a file too many":             {providertest.Files(map[string]string{"password": canary, "user": "app", "extra": "x"}), codes.Unavailable, "PC2001W complete BeyondGrant"},
		"a file too few":              {providertest.Files(map[string]string{"password": canary}), codes.Unavailable, "PC2001W complete BeyondGrant"},
		"no files":                    {providertest.Files(nil), codes.Unavailable, "PC2001E complete ProviderInvalid"},
		"more than fits":              {providertest.Files(map[string]string{"password": strings.Repeat("x", 2<<20), "user": "app"}), codes.ResourceExhausted, "PC2001W complete BudgetExceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, func(s *setup) { s.provider.Handler = c.handler })
			expectStatus(t, n.publish(apiPod()), c.code, "; hint: ")
			n.expectNothing(apiPod())
			n.expectEvents("PC2001I intent", c.event)
			if strings.Contains(n.stderr.String(), canary) {
				t.Error("the log holds what the provider said")
			}
		})
	}
}

func TestPublishAfterTheBundleExpiredDuringTheFetch(t *testing.T) {
	start := time.Unix(0, policiestest.Now)
	end := start.Add(time.Hour)
	var n *node
	n = newNode(t, func(s *setup) {
		s.policy = []policiestest.Option{policiestest.WithFile(".manifest",
			`{"revision":"test","roots":["portcullis"],"rego_version":1,"metadata":{"contract":"portcullis/v1","serial":1,"not_after":"`+end.UTC().Format(time.RFC3339)+`"}}`)}
		s.provider.Handler = func(ctx context.Context, r *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
			n.clock.advance(2 * time.Hour)
			return providertest.Files(secretFiles())(ctx, r)
		}
	})
	n.clock.advance(time.Until(start))
	expectStatus(t, n.publish(apiPod()), codes.Unavailable, "expired")
	n.expectNothing(apiPod())
	n.expectEvents("PC2001I intent", "PC2001E complete BundleExpired")
}

func TestP8UnpublishDoesNotWaitForAHungProvider(t *testing.T) {
	n := newNode(t, func(s *setup) { s.provider.Handler = providertest.Hang() })
	published := make(chan error, 1)
	go func() { published <- n.publish(apiPod()) }()
	for len(n.provider.Calls()) == 0 {
		time.Sleep(time.Millisecond)
	}
	begin := time.Now()
	n.mustUnpublish(apiPod())
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("unpublish took %v beside a provider that hangs", took)
	}
	expectStatus(t, <-published, codes.Aborted, "given up")
	n.expectNothing(apiPod())
}

func TestP8UnpublishWorksWithABrokenLogAndWithoutPolicy(t *testing.T) {
	n := newNode(t)
	n.mustPublish(apiPod())
	n.log.broken.Store(true)
	n.policy.engine.Store(nil)
	n.mustUnpublish(apiPod())
	n.expectNothing(apiPod())
	n.log.broken.Store(false)
	n.expectEvents("PC2001I intent", "PC2001I complete", "PC2003I")
}

func TestPublishAtOnceForManyPods(t *testing.T) {
	n := newNode(t)
	const pods = 24
	errs := make(chan error, pods)
	for i := range pods {
		p := apiPod()
		p.name, p.uid = "api-"+string(rune('a'+i)), "11111111-1111-4111-8111-1111111111"+string("0123456789abcdef"[i/16])+string("0123456789abcdef"[i%16])
		n.add(p)
		go func() {
			// Kubelet's retry comes while the first call still runs.
			go func() { errs <- n.publish(p) }()
			errs <- n.publish(p)
		}()
	}
	for range 2 * pods {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	mounts, err := n.volumes.Mounts()
	if err != nil || len(mounts) != pods {
		t.Errorf("mounts = %d (%v), want %d", len(mounts), err, pods)
	}
}

func TestNodeServiceAnswersWithoutAnything(t *testing.T) {
	n := newNode(t)
	caps, err := n.csi.NodeGetCapabilities(t.Context(), &csi.NodeGetCapabilitiesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var types []string
	for _, c := range caps.GetCapabilities() {
		types = append(types, c.GetRpc().GetType().String())
	}
	if diff := cmp.Diff([]string{"VOLUME_MOUNT_GROUP", "GET_VOLUME_STATS"}, types); diff != "" {
		t.Errorf("capabilities (-want +got):\n%s", diff)
	}
	if n.driver.Registered() {
		t.Error("Registered() before kubelet asked, want false")
	}
	info, err := n.csi.NodeGetInfo(t.Context(), &csi.NodeGetInfoRequest{})
	if err != nil || info.GetNodeId() != nodeName || !n.driver.Registered() {
		t.Errorf("NodeGetInfo() = %v, %v, want %q and registered", info, err, nodeName)
	}
	plugin, err := n.identity.GetPluginInfo(t.Context(), &csi.GetPluginInfoRequest{})
	if err != nil || plugin.GetName() != driverName {
		t.Errorf("GetPluginInfo() = %v, %v, want %q", plugin, err, driverName)
	}
	pluginCaps, err := n.identity.GetPluginCapabilities(t.Context(), &csi.GetPluginCapabilitiesRequest{})
	if err != nil || len(pluginCaps.GetCapabilities()) != 0 {
		t.Errorf("GetPluginCapabilities() = %v, %v, want none", pluginCaps, err)
	}
	probe, err := n.identity.Probe(t.Context(), &csi.ProbeRequest{})
	if err != nil || !probe.GetReady().GetValue() {
		t.Errorf("Probe() = %v, %v, want ready", probe, err)
	}
}

func TestNodeGetVolumeStats(t *testing.T) {
	n := newNode(t)
	ask := func() (*csi.NodeGetVolumeStatsResponse, error) {
		return n.csi.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: "v", VolumePath: n.target(apiPod())})
	}
	_, err := ask()
	expectStatus(t, err, codes.NotFound)
	n.mustPublish(apiPod())
	stats, err := ask()
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range stats.GetUsage() {
		if u.GetTotal() <= 0 || u.GetUsed() <= 0 || u.GetUsed()+u.GetAvailable() > u.GetTotal() {
			t.Errorf("usage = %v, want plausible figures", u)
		}
	}
	if len(stats.GetUsage()) != 2 {
		t.Errorf("usages = %d, want bytes and inodes", len(stats.GetUsage()))
	}
}

func TestNodeGetVolumeStatsRefusals(t *testing.T) {
	n := newNode(t)
	n.mustPublish(apiPod())
	for name, c := range map[string]struct {
		id, path string
		code     codes.Code
		words    []string
	}{
		"no volume id":   {"", n.target(apiPod()), codes.InvalidArgument, []string{"volume_id"}},
		"no volume path": {"v", "", codes.InvalidArgument, []string{"volume_path"}},
		// The specification's answer for any path without a volume.
		"relative path":      {"v", "some/path", codes.NotFound, []string{"volume_path"}},
		"path of the node":   {"v", "/etc", codes.NotFound, []string{"volume_path"}},
		"path in the volume": {"v", n.target(apiPod()) + "/..data", codes.NotFound, []string{"volume_path"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := n.csi.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: c.id, VolumePath: c.path})
			expectStatus(t, err, c.code, append(c.words, "; hint: ")...)
		})
	}
}
