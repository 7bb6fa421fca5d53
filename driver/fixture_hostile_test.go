package driver_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/status"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
	"github.com/portcullis-csi/portcullis/hardening"
)

// spill is in everything that a hostile provider says: contents, paths, error
// texts. The content of decent ones does not have it, so that wherever it
// turns up, it came from a reply that was refused.
const spill = "spill-93f2a7c4-said-by-the-provider"

// nowhere is where target_path points to.
const nowhere = "/nonexistent"

// script answers each pod as a test says.
type script struct {
	mu    sync.Mutex
	byPod map[string]providertest.Handler
}

func (s *script) set(p pod, h providertest.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byPod == nil {
		s.byPod = map[string]providertest.Handler{}
	}
	s.byPod[p.uid] = h
}

func (s *script) answer(ctx context.Context, r *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
	s.mu.Lock()
	h := s.byPod[filepath.Base(filepath.Dir(r.GetTargetPath()))]
	s.mu.Unlock()
	if h == nil {
		h = providertest.Files(secretFiles())
	}
	return h(ctx, r)
}

// follow makes a node's provider follow the script.
func (s *script) follow(c *setup) { c.provider.Handler = s.answer }

// numbered is the i-th of many pods that differ in nothing else.
func numbered(i int) pod {
	p := apiPod()
	p.name, p.uid = fmt.Sprintf("api-n%d", i), fmt.Sprintf("33333333-3333-4333-8333-%012d", i)
	return p
}

// remove deletes a pod that is not mounted any more.
func (n *node) remove(p pod) {
	n.t.Helper()
	if err := os.Remove(filepath.Join(n.manifest, "pod-"+p.uid+".yaml")); err != nil {
		n.t.Fatal(err)
	}
}

// podEvents waits for the event with which an attempt ends, and returns all
// of this pod.
func (n *node) podEvents(p pod, least int) []audit.Event {
	n.t.Helper()
	var own []audit.Event
	waitFor(n.t, func() bool {
		own = own[:0]
		for _, e := range n.recorded() {
			if e.Workload != nil && e.Workload.PodUID == p.uid {
				own = append(own, e)
			}
		}
		return len(own) >= least
	})
	return own
}

// waitFor polls until the condition holds.
func waitFor(t testing.TB, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !condition(); {
		if time.Now().After(end) {
			t.Fatal("condition not met within 20 s")
		}
		time.Sleep(time.Millisecond)
	}
}

// seen is what a pod and an operator can tell of a mounted volume.
type seen struct {
	Mount   []string
	Data    string // the generation
	Files   map[string]string
	Inodes  map[string]uint64
	Budget  int64
	Records string
}

func (n *node) look(p pod) seen {
	n.t.Helper()
	s := seen{
		Mount: mountLines(n.t, n.target(p)), Files: n.content(p), Inodes: map[string]uint64{},
		Budget: n.gauge("portcullis_volume_budget_used_bytes"),
	}
	s.Data, _ = os.Readlink(filepath.Join(n.target(p), "..data"))
	for name := range s.Files {
		info, err := os.Stat(filepath.Join(n.target(p), name))
		if err != nil {
			n.t.Fatal(err)
		}
		s.Inodes[name] = ownerOf(n.t, info).Ino
	}
	if rec, ok := n.records.Get(p.uid, volume); ok {
		s.Records = fmt.Sprint(rec.Versions, rec.FetchedAt, rec.DecisionID)
	}
	return s
}

// expectSame fails if anything about a mounted volume is another than before.
func (n *node) expectSame(p pod, before seen) {
	n.t.Helper()
	if diff := cmp.Diff(before, n.look(p)); diff != "" {
		n.t.Errorf("the mounted volume changed (-before +after):\n%s", diff)
	}
}

// spilled names the places where what the provider said can be found and must
// not be: the reply, log, events, metrics and volumes.db, and any file below
// kubelet's root, those of mounted volumes included.
func (n *node) spilled(err error) []string {
	n.t.Helper()
	var metrics strings.Builder
	for name := range n.collect() {
		metrics.WriteString(name + "\n")
	}
	n.log.mu.Lock()
	events := bytes.Join(n.log.leaves, []byte("\n"))
	n.log.mu.Unlock()
	places := map[string]string{
		"reply": status.Convert(err).Message(), "log": n.stderr.String(), "events": string(events), "metrics": metrics.String(),
	}
	n.records.Flush()
	for _, dir := range []string{n.root, n.records.Dir()} {
		for name, text := range n.filesBelow(dir) {
			places[name] = text
		}
	}
	var found []string
	for place, text := range places {
		if slices.ContainsFunc(spillings(), func(s string) bool { return strings.Contains(text, s) }) {
			found = append(found, place)
		}
	}
	slices.Sort(found)
	return found
}

// checkSpill fails if anything of what the provider said is anywhere.
func (n *node) checkSpill(err error) {
	n.t.Helper()
	if places := n.spilled(err); len(places) > 0 {
		n.t.Errorf("%q hold what the provider said", places)
	}
	if _, err := os.Lstat(nowhere); !errors.Is(err, fs.ErrNotExist) {
		n.t.Errorf("Lstat(%s) = %v, want nothing there", nowhere, err)
	}
}

// spillings are spellings of spill.
func spillings() []string {
	return []string{
		spill, spill[:14], spill[len(spill)-14:], hex.EncodeToString([]byte(spill[:14])), strings.ToUpper(hex.EncodeToString([]byte(spill[:14]))),
		strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(spill)), "=")[:40],
	}
}

func (n *node) filesBelow(dir string) map[string]string {
	n.t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		found[path] = string(text)
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return found
}

// descriptors counts what the process has open: plugin, provider and test.
func descriptors(t testing.TB) int {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(open)
}

// expectNoLeak waits until no more is open than before, and looks for volumes
// that stayed mounted anywhere below kubelet's root.
func (n *node) expectNoLeak(before int) {
	n.t.Helper()
	waitFor(n.t, func() bool { return descriptors(n.t) <= before })
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		n.t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		if strings.Contains(line, n.root) && strings.Contains(line, " "+hardening.Marker+" ") {
			n.t.Errorf("still mounted: %s", line)
		}
	}
	if used := n.gauge("portcullis_volume_budget_used_bytes"); used != 0 {
		n.t.Errorf("budget in use = %d, want 0", used)
	}
	n.expectNoPanic()
}

// expectNoPanic: a panic is answered like any other failure, and would pass
// for one.
func (n *node) expectNoPanic() {
	n.t.Helper()
	if log := n.stderr.String(); strings.Contains(log, "panicked") {
		n.t.Errorf("a call panicked: %s", log[strings.Index(log, "panicked"):])
	}
}
