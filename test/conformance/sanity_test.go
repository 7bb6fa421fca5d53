package conformance_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
	"github.com/onsi/ginkgo/v2"       //nolint:depguard // the suite is written in it
	"github.com/onsi/ginkgo/v2/types" //nolint:depguard // the suite is written in it
	"github.com/onsi/gomega"          //nolint:depguard // the suite is written in it
	"google.golang.org/grpc"
)

const (
	// leastSpecs is how many specs run and pass. A suite that skips more is no
	// proof of anything; one that has more of them is welcome.
	leastSpecs = 17
	// leastVolumes is how many of those mount a volume.
	leastVolumes = 4
	// controllerSpecs are asked for by no capability of a node plugin, and fail
	// where nobody answers: they are filtered out. All others on the list are
	// skipped by the suite itself, because the plugin does not advertise what
	// they are about; an entry whose spec runs is a failure.
	controllerSpecs = "[Controller Server]"
)

// skip is a part of the suite that does not apply to a node plugin for
// ephemeral volumes.
type skip struct {
	text string // in the full name of each of its specs
	why  string
}

// skips is the whole list. That the plugin answers UNIMPLEMENTED to every call
// in it is what TestEveryRPC tests.
func skips() []skip {
	return []skip{
		// Volumes of this driver come with a pod and go with it: nothing is
		// provisioned, attached or snapshotted, so there is no controller.
		{controllerSpecs, "no controller plugin"},
		{"GroupController Service", "no group controller plugin"},
		// A secret volume has one target for its life and is read-only: there
		// are no writers to tell apart.
		{"with single node multi writer capability", "SINGLE_NODE_MULTI_WRITER is not advertised"},
		// Kubelet never stages inline volumes (they cannot be shared by pods),
		// and a staged secret would be a copy more than the pod has.
		{"NodeStageVolume", "STAGE_UNSTAGE_VOLUME is not advertised"},
		{"NodeUnstageVolume", "STAGE_UNSTAGE_VOLUME is not advertised"},
		// The driver sizes a volume to its content; nobody else may ask for more.
		{"NodeExpandVolume", "EXPAND_VOLUME is not advertised"},
		// Alpha in the specification, and kubelet does not call them; the
		// plugin tells of bad volumes in events, metrics and readiness.
		{"NodeGetVolumeHealth", "GET_VOLUME_HEALTH is not advertised"},
		{"NodeGetStorageHealth", "GET_STORAGE_HEALTH is not advertised"},
	}
}

// TestSanity runs csi-test's suite. Ginkgo runs one suite in a process.
func TestSanity(t *testing.T) {
	w := newWorld(t)
	c := &cluster{w: w, inNodeSpec: func() bool {
		return slices.Contains(ginkgo.CurrentSpecReport().ContainerHierarchyTexts, "Node Service")
	}}
	config := sanity.NewTestConfig()
	config.Address = w.endpoint("csi.sock")
	config.DialOptions = append(config.DialOptions, grpc.WithUnaryInterceptor(c.intercept))
	config.TargetPath, config.StagingPath = w.path("kubelet/pods"), "" // nothing is staged
	config.CreateTargetDir, config.RemoveTargetPath, config.CheckPath = c.makeTargetDir, c.removeTargetDir, c.checkPath
	w.write("secrets.yaml", fmt.Sprintf("NodePublishVolumeSecret:\n  %s: '%s'\n", tokensKey, tokens()[tokensKey]))
	config.SecretsFile = w.path("secrets.yaml")

	gomega.RegisterFailHandler(ginkgo.Fail)
	suite := sanity.GinkgoTest(&config)
	defer suite.Finalize()
	var specs []spec
	ginkgo.ReportAfterSuite("keep what ran", func(r ginkgo.Report) { specs = specsOf(r) })
	options, output := ginkgo.GinkgoConfiguration()
	options.SkipStrings = []string{regexp.QuoteMeta(controllerSpecs)}
	output.NoColor = true
	if !ginkgo.RunSpecs(t, "CSI sanity", options, output) {
		return // it has said why
	}
	ran, problems := accountFor(specs, skips())
	for _, p := range problems {
		t.Error(p)
	}
	if ran < leastSpecs {
		t.Errorf("%d of %d specs ran, want at least %d", ran, len(specs), leastSpecs)
	}
	if c.created < leastVolumes {
		t.Errorf("specs mounted %d volumes, want at least %d", c.created, leastVolumes)
	}
	t.Logf("%d of %d specs ran and passed, with %d volumes", ran, len(specs), c.created)
}

// spec is one spec of the suite and what became of it.
type spec struct {
	name, state, reason string
}

func specsOf(r ginkgo.Report) (specs []spec) {
	for _, s := range r.SpecReports {
		if s.LeafNodeType.Is(types.NodeTypeIt) {
			specs = append(specs, spec{s.FullText(), s.State.String(), s.FailureMessage()})
		}
	}
	return specs
}

// accountFor holds the specs against the list: every spec has passed, or is on
// the list and was skipped, and every entry of the list is needed.
func accountFor(specs []spec, list []skip) (ran int, problems []string) {
	used := make([]bool, len(list))
	for _, s := range specs {
		entry := slices.IndexFunc(list, func(e skip) bool { return strings.Contains(s.name, e.text) })
		passed := s.state == types.SpecStatePassed.String()
		switch {
		case passed && entry < 0:
			ran++
		case passed:
			problems = append(problems, fmt.Sprintf("%q ran, and is on the skip list under %q: strike it", s.name, list[entry].text))
		case entry < 0:
			problems = append(problems, fmt.Sprintf("%q is %s (%s), and not on the skip list", s.name, s.state, s.reason))
		}
		if entry >= 0 {
			used[entry] = true
		}
	}
	for i, e := range list {
		if !used[i] {
			problems = append(problems, fmt.Sprintf("no spec has %q in its name: the skip list is stale", e.text))
		}
	}
	return ran, problems
}

func TestAccountFor(t *testing.T) {
	list := []skip{{"Stage", "not advertised"}}
	staged := spec{"Node Stage works", "skipped", "not supported"}
	for name, c := range map[string]struct {
		specs    []spec
		ran      int
		problems []string
	}{
		"as it should be":  {[]spec{{"Probe works", "passed", ""}, staged}, 1, nil},
		"pending is known": {[]spec{{"Node Stage waits", "pending", ""}}, 0, nil},
		"skipped unawares": {[]spec{staged, {"Probe works", "skipped", "no Probe"}}, 0, []string{`"Probe works" is skipped (no Probe), and not on the skip list`}},
		"pending unawares": {[]spec{staged, {"Probe works", "pending", ""}}, 0, []string{`"Probe works" is pending (), and not on the skip list`}},
		"stale entry":      {[]spec{{"Probe works", "passed", ""}}, 1, []string{`no spec has "Stage" in its name: the skip list is stale`}},
		"entry that runs":  {[]spec{{"Node Stage works", "passed", ""}}, 0, []string{`"Node Stage works" ran, and is on the skip list under "Stage": strike it`}},
		"nothing at all":   {nil, 0, []string{`no spec has "Stage" in its name: the skip list is stale`}},
	} {
		t.Run(name, func(t *testing.T) {
			ran, problems := accountFor(c.specs, list)
			if ran != c.ran {
				t.Errorf("accountFor() = %d specs, want %d", ran, c.ran)
			}
			if diff := cmp.Diff(c.problems, problems); diff != "" {
				t.Errorf("accountFor(): problems (-want +got):\n%s", diff)
			}
		})
	}
}
