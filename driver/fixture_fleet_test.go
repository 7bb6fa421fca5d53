package driver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// teams are namespaces that share one grant.
func teams() []string { return []string{"team-a", "team-b", "team-c", "team-d", "team-e"} }

func fleetGrants() string {
	return strings.Replace(grants, "[payments]", "["+strings.Join(teams(), ", ")+"]", 1)
}

// teamPod is the i-th pod of a team; no two have the same UID.
func teamPod(team string, i int) pod {
	p := apiPod()
	p.namespace, p.name = team, fmt.Sprintf("%s-%d", team, i)
	p.uid = fmt.Sprintf("33333333-3333-4333-8333-%06x%06x", team[len(team)-1], i)
	return p
}

// fleet makes the teams with their class, and pods. All pods are in one file:
// a directory of manifests has a bounded number of them.
func (n *node) fleet(pods ...pod) {
	n.t.Helper()
	var text strings.Builder
	for _, team := range teams() {
		text.WriteString(strings.NewReplacer("payments}", team+"}").Replace(objects) + "\n---\n")
	}
	n.write("teams.yaml", text.String())
	text.Reset()
	for _, p := range pods {
		text.WriteString(p.manifest() + "\n---\n")
		hardeningtest.VolumeDir(n.t, n.root, p.uid, volume)
	}
	n.write("fleet.yaml", text.String())
}

// fleetGranted is an option of newNode: every team may have the two objects of
// its class.
func fleetGranted(s *setup) { s.grants = fleetGrants() }

// podOf returns the name of the pod that a provider is asked for.
func podOf(r *v1alpha1.MountRequest) string {
	attributes := map[string]string{}
	_ = json.Unmarshal([]byte(r.GetAttributes()), &attributes) // no name matches nothing
	return attributes["csi.storage.k8s.io/pod.name"]
}

// byPod answers each pod with the handler of its name, and others with rest.
func byPod(rest providertest.Handler, handlers map[string]providertest.Handler) providertest.Handler {
	return func(ctx context.Context, r *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
		if h, ok := handlers[podOf(r)]; ok {
			return h(ctx, r)
		}
		return rest(ctx, r)
	}
}

// restartable is a node, and what starts a new driver over its mounts.
func restartable(t *testing.T, change ...func(*setup)) (n *node, restart func()) {
	t.Helper()
	var s *setup
	n = newNode(t, append(change, func(chosen *setup) { s = chosen })...)
	return n, func() {
		t.Helper()
		// What a process that was killed held is gone with it; pages that are
		// not locked any more show that the next one locks them again.
		if err := n.volumes.Close(); err != nil {
			t.Fatal(err)
		}
		n.build(*s)
		n.serve()
		if err := n.driver.Recover(nil); err != nil {
			t.Fatal(err)
		}
	}
}

// together runs a call for every pod at once.
func together(pods []pod, call func(pod) error) []error {
	errs := make([]error, len(pods))
	start := make(chan struct{})
	var calls sync.WaitGroup
	for i, p := range pods {
		calls.Go(func() {
			<-start
			errs[i] = call(p)
		})
	}
	close(start)
	calls.Wait()
	return errs
}

// sizes returns size= of each of our volumes in the mount table, by pod UID.
func (n *node) sizes() map[string]int64 {
	n.t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		n.t.Fatal(err)
	}
	found := map[string]int64{}
	line := regexp.MustCompile(regexp.QuoteMeta(filepath.Join(n.root, "pods")) + `/([^/ ]+)/.* - tmpfs ` + regexp.QuoteMeta(hardening.Marker) + ` .*\bsize=(\d+)k`)
	for l := range strings.Lines(string(text)) {
		if m := line.FindStringSubmatch(l); m != nil {
			kib, err := strconv.ParseInt(m[2], 10, 64)
			if err != nil {
				n.t.Fatal(err)
			}
			found[m[1]] += kib << 10
		}
	}
	return found
}

func sum(sizes map[string]int64) (total int64) {
	for _, s := range sizes {
		total += s
	}
	return total
}

// settled returns the sizes once two looks at the mount table agree: one look is
// several reads, between which a volume can go and another one come.
func (n *node) settled() map[string]int64 {
	n.t.Helper()
	for last := n.sizes(); ; {
		next := n.sizes()
		if maps.Equal(last, next) {
			return next
		}
		last = next
	}
}

// inUse is what the driver says its volumes may fill.
func (n *node) inUse() int64 { return n.gauge("portcullis_volume_budget_used_bytes") }
