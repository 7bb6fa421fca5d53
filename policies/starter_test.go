package policies_test

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
	"github.com/portcullis-csi/portcullis/policies/secretref"
)

// TestStarterCompiles: what security teams copy must load as it is, and let an
// ordinary pod through, reporting what it lacks.
func TestStarterCompiles(t *testing.T) {
	e := compile(t, starter(t), 20*time.Second)
	if got := summary(e.Decide(t.Context(), policiestest.Input())); got != "allow warn PR-232" {
		t.Errorf("Decide() by the starter policy = %q, want allow warn PR-232", got)
	}
}

// TestStarterRequiresEachOfItsChecks: a check that is lost in a merge stops the
// load.
func TestStarterRequiresEachOfItsChecks(t *testing.T) {
	checks, err := fs.Glob(starter(t), "portcullis/checks/*")
	if err != nil {
		t.Fatal(err)
	}
	for i := range checks {
		checks[i] = strings.TrimPrefix(checks[i], "portcullis/checks/")
	}
	config := starterConfig(t, starter(t))
	if diff := cmp.Diff(checks, config.RequiredChecks); diff != "" {
		t.Errorf("required_checks of the starter policy differ from its checks (-checks +required):\n%s", diff)
	}
	for _, name := range slices.Sorted(maps.Keys(config.Checks)) {
		if !slices.Contains(checks, name) {
			t.Errorf("the starter policy has settings of %s, which is no check of it", name)
		}
	}
}

// TestStarterAllowsTheProvidersWeRead: a provider whose classes are read for
// certain is one that the list begins with.
func TestStarterAllowsTheProvidersWeRead(t *testing.T) {
	var known []string
	for _, s := range secretref.Syntaxes() {
		known = append(known, s.Provider)
	}
	slices.Sort(known)
	if diff := cmp.Diff(known, starterConfig(t, starter(t)).Checks["provider"]["allowed"].list()); diff != "" {
		t.Errorf("the starter policy allows other providers than those we read (-read +allowed):\n%s", diff)
	}
}

// setting is one value of the configuration of a check.
type setting struct{ value any }

func (s *setting) UnmarshalJSON(text []byte) error { return yaml.Unmarshal(text, &s.value) }

func (s setting) list() []string {
	var list []string
	items, _ := s.value.([]any)
	for _, item := range items {
		list = append(list, fmt.Sprint(item))
	}
	return list
}

type starterSettings struct {
	RequiredChecks []string                      `json:"required_checks"`
	Checks         map[string]map[string]setting `json:"checks"`
}

func starterConfig(t *testing.T, files fs.FS) starterSettings {
	t.Helper()
	text, err := fs.ReadFile(files, "portcullis/config/data.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var config starterSettings
	if err := yaml.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	return config
}

// strictStarter is the starter policy with every choice that it leaves open
// taken: digests, verified tokens and granted copies are demanded.
func strictStarter(t *testing.T) *policies.Engine {
	t.Helper()
	return compile(t, starterWith(t,
		"required_in: {namespaces: []}", "required_in: {namespaces: [payments]}",
		"unverified: warn", "unverified: deny",
		"not_granted: warn", "not_granted: deny",
		"    allowed: []", "    allowed: [/var/log]",
	), 20*time.Second)
}

// starterWith replaces texts of the configuration, each of which is there once,
// and the grants by those of the matrix.
func starterWith(t *testing.T, oldnew ...string) fstest.MapFS {
	t.Helper()
	files := fstest.MapFS{}
	err := fs.WalkDir(starter(t), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(starter(t), name)
		policiestest.WithFile(name, string(text))(files)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	const config = "portcullis/config/data.yaml"
	text := string(files[config].Data)
	for pair := range slices.Chunk(oldnew, 2) {
		if strings.Count(text, pair[0]) != 1 {
			t.Fatalf("the configuration of the starter policy has %q %d times, want once", pair[0], strings.Count(text, pair[0]))
		}
		text = strings.Replace(text, pair[0], pair[1], 1)
	}
	policiestest.WithFile(config, text)(files)
	policiestest.WithFile("portcullis/grants/example.yaml", starterGrants())(files)
	return files
}

// TestStarterWithoutSettingsIsStrict: a team that loses the settings, or
// misspells a check's name in them, does not lose the checks.
func TestStarterWithoutSettingsIsStrict(t *testing.T) {
	files := starterWith(t)
	policiestest.WithConfig("checks: {}\n")(files)
	e := compile(t, files, 20*time.Second)
	for _, row := range starterRows() {
		in := strictInput(row.refused)
		if ids := policies.RuleIDs(e.Decide(t.Context(), in).Deny); !slices.Contains(ids, row.id) && row.id != "PR-202" {
			t.Errorf("Decide(%s) without settings denies by %v, want %s among them", row.id, ids, row.id)
		}
	}
	in := strictInput(func(in *policies.Input) { in.Pod.HostPaths = []string{"/opt"} })
	if got := policies.RuleIDs(e.Decide(t.Context(), in).Deny); !slices.Contains(got, "PR-205") {
		t.Errorf("Decide(any hostPath) without settings denies by %v, want PR-205 among them", got)
	}
}

// TestStarterSurvivesWhatOthersChoose: however many containers, paths and
// capabilities a pod has, and whatever their names, the answer is a denial: an
// error would not revoke.
func TestStarterSurvivesWhatOthersChoose(t *testing.T) {
	e := strictStarter(t)
	in := strictInput(func(in *policies.Input) {
		in.Pod.ShareProcessNamespace = true
		for i := range 300 {
			c := in.Pod.Containers[0]
			c.Name, c.Kind, c.Privileged = fmt.Sprintf("\x1b[2J%d", i), policies.ContainerEphemeral, true
			c.Capabilities = []string{fmt.Sprint("ODD_", i), "SYS_ADMIN"}
			in.Pod.Containers = append(in.Pod.Containers, c)
		}
		in.Pod.HostPaths = []string{"/" + strings.Repeat("x", 20<<10), "/proc/\n" + strings.Repeat("y", 4096)}
	})
	d := e.Decide(t.Context(), in)
	if got := summary(d); got != "deny PR-200,PR-202,PR-203,PR-204,PR-205" {
		t.Errorf("Decide(a hostile pod) = %q (%v), want its denials", got, d.Cause())
	}
	for _, f := range d.Deny {
		if len(f.Message) > 4096 || strings.ContainsAny(f.Message+f.Remediation, "\x1b\n") {
			t.Errorf("%s has a message of %d bytes, or control characters: %.200q", f.ID, len(f.Message), f.Message)
		}
	}
}
