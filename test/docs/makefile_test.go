package docs_test

import (
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// targets of the Makefile with their help, read from the file.
func targets(t *testing.T) map[string]string {
	t.Helper()
	return targetsOf(t, "Makefile")
}

func targetsOf(t *testing.T, makefile string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^([a-z0-9-]+):(?:[^=\n#]*)(?:## (.*))?$`).FindAllStringSubmatch(read(t, makefile), -1) {
		found[m[1]] = m[2]
	}
	return found
}

func TestMakefileHasTheTargetsOfTheHouse(t *testing.T) {
	want := strings.Fields(`help build demo test race root attack fuzz conformance integration e2e lab lab-down bench
		nightly lint vuln generate verify image chart cover clean`)
	slices.Sort(want)
	have := targets(t)
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(have))); diff != "" {
		t.Errorf("targets of the Makefile (-want +got):\n%s", diff)
	}
	for name, help := range have {
		if help == "" || strings.HasSuffix(help, ".") || help[0] < 'A' || help[0] > 'Z' {
			t.Errorf("help of target %s is %q, want one sentence without a full stop", name, help)
		}
	}
	// A target with a plain comment is a part of others, which help leaves out.
	for _, m := range regexp.MustCompile(`(?m)^([a-z0-9-]+):[^=\n#]*# `).FindAllStringSubmatch(read(t, "Makefile"), -1) {
		want = append(want, m[1])
	}
	slices.Sort(want)
	phony := regexp.MustCompile(`(?m)^\.PHONY: (.*)$`).FindStringSubmatch(read(t, "Makefile"))
	if phony == nil {
		t.Fatal("Makefile has no .PHONY line")
	}
	if diff := cmp.Diff(want, slices.Sorted(slices.Values(strings.Fields(phony[1])))); diff != "" {
		t.Errorf(".PHONY (-want +got), so a file of that name would hide the target:\n%s", diff)
	}
	if n := strings.Count(read(t, "Makefile"), "\n"); n >= 120 {
		t.Errorf("Makefile has %d lines, want fewer than 120", n)
	}
}

func TestMakeHelpListsEveryTarget(t *testing.T) {
	out := runMake(t, "help")
	for name := range targets(t) {
		if !regexp.MustCompile(`(?m)^ +` + name + ` +\S`).MatchString(out) {
			t.Errorf("make help does not list %s:\n%s", name, out)
		}
	}
}

func TestEveryMakeCommandInTheDocumentsExists(t *testing.T) {
	have, template := targets(t), targetsOf(t, "deploy/policy-template/Makefile")
	command := regexp.MustCompile("(?m)(?:^|[`'=]|run: |sudo |[\"] )make ([a-z][a-z0-9-]*)")
	checked := 0
	for _, name := range files(t) {
		if !strings.HasSuffix(name, ".md") && !strings.HasPrefix(name, ".github/") && name != ".ci/run" {
			continue
		}
		have := have
		if strings.HasPrefix(name, "deploy/policy-template/") {
			have = template
		}
		for _, m := range command.FindAllStringSubmatch(read(t, name), -1) {
			checked++
			if _, ok := have[m[1]]; !ok {
				t.Errorf("%s names make %s, which does not exist", name, m[1])
			}
		}
	}
	if checked < 10 {
		t.Errorf("found %d make commands in documents and workflows, want at least 10: the search is broken", checked)
	}
}

func TestWorkflowIsPinnedAndReadOnly(t *testing.T) {
	text := read(t, ".github/workflows/ci.yml")
	for _, m := range regexp.MustCompile(`uses: (\S+)`).FindAllStringSubmatch(text, -1) {
		if !regexp.MustCompile(`@[0-9a-f]{40}$`).MatchString(m[1]) {
			t.Errorf("the workflow uses %s, want a commit hash: a tag can be moved", m[1])
		}
	}
	var workflow struct {
		Permissions map[string]string
		Jobs        map[string]struct{ Permissions map[string]string }
	}
	if err := yaml.Unmarshal([]byte(text), &workflow); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"contents": "read"}, workflow.Permissions); diff != "" {
		t.Errorf("permissions of the workflow (-want +got):\n%s", diff)
	}
	for name, job := range workflow.Jobs {
		if len(job.Permissions) > 0 {
			t.Errorf("job %s widens its permissions to %v", name, job.Permissions)
		}
	}
}

// runMake returns what a target prints.
func runMake(t *testing.T, target string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "make", "-C", root, target).CombinedOutput()
	if err != nil {
		t.Fatalf("make %s: %v\n%s", target, err, out)
	}
	return string(out)
}
