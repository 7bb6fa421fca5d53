package main_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// workflow is what is checked of a workflow of GitHub.
type workflow struct {
	On          map[string]struct{ Tags []string }
	Permissions map[string]string
	Defaults    struct{ Run struct{ Shell string } }
	Jobs        map[string]struct {
		Needs       []string
		Permissions map[string]string
		Steps       []struct{ Name, Uses, Run, Shell string }
	}
}

func release(t *testing.T) (workflow, string) {
	t.Helper()
	text, err := os.ReadFile("../../.github/workflows/release.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var w workflow
	if err := yaml.Unmarshal(text, &w); err != nil {
		t.Fatal(err)
	}
	return w, string(text)
}

func TestReleaseRunsOnTagsOnly(t *testing.T) {
	w, _ := release(t)
	if len(w.On) != 1 || len(w.On["push"].Tags) != 1 {
		t.Errorf("release runs on %v, want tags that are pushed", w.On)
	}
}

// Whoever can change a script's words, a step or an action can publish.
func TestReleaseStepsAreClosed(t *testing.T) {
	w, _ := release(t)
	steps := 0
	for name, job := range w.Jobs {
		for _, s := range job.Steps {
			steps++
			switch {
			case s.Uses != "":
				if !regexp.MustCompile(`@[0-9a-f]{40}$`).MatchString(s.Uses) {
					t.Errorf("job %s uses %s, want a commit hash: a tag can be moved", name, s.Uses)
				}
			case !strings.HasPrefix(s.Run, "set -euo pipefail\n") || w.Defaults.Run.Shell != "bash" || s.Shell != "":
				t.Errorf("job %s, step %q goes on after an error, or is not bash", name, s.Name)
			case strings.Contains(s.Run, "${{"):
				t.Errorf("job %s, step %q pastes an expression into a script: hand it over in env", name, s.Name)
			}
		}
	}
	if steps < 10 {
		t.Errorf("found %d steps, want the whole release", steps)
	}
}

func TestOnlyPublishingMayWrite(t *testing.T) {
	w, _ := release(t)
	read := map[string]string{"contents": "read"}
	if diff := cmp.Diff(read, w.Permissions); diff != "" {
		t.Errorf("permissions of the workflow (-want +got):\n%s", diff)
	}
	for name, job := range w.Jobs {
		want := map[string]string(nil)
		if name == "publish" {
			want = map[string]string{"contents": "read", "packages": "write", "id-token": "write"}
			if diff := cmp.Diff([]string{"first", "second"}, job.Needs); diff != "" {
				t.Errorf("publish needs (-want +got):\n%s", diff)
			}
		}
		if diff := cmp.Diff(want, job.Permissions); diff != "" {
			t.Errorf("permissions of job %s (-want +got):\n%s", name, diff)
		}
	}
}

// The two builds must run the same commands, or equal digests mean nothing.
func TestBothBuildsAreTheSame(t *testing.T) {
	w, text := release(t)
	var scripts []string
	for _, name := range []string{"first", "second"} {
		for _, s := range w.Jobs[name].Steps {
			if s.Run != "" {
				scripts = append(scripts, s.Run)
			}
		}
	}
	if len(scripts) != 2 || scripts[0] != scripts[1] || !strings.Contains(scripts[0], "make image IMAGE=--release\n") {
		t.Errorf("scripts of the two builds are %q", scripts)
	}
	// What is pushed is what was compared, and not made once more.
	for _, want := range []string{"go run -C test/chart ./pack ", "images/*.digest images/*.cdx.json chart/*.tgz"} {
		if strings.Count(text, want) != 3 {
			t.Errorf("%q is %d times in the release, want it in both builds and before anything is published", want, strings.Count(text, want))
		}
	}
	if strings.Contains(text, `helm" package`) {
		t.Error("the chart is packaged with the time of day in it, after the comparison")
	}
	for _, want := range []string{"cosign sign --yes --recursive", "--type slsaprovenance1", "--type cyclonedx", `helm" push`} {
		if !strings.Contains(text, want) {
			t.Errorf("release does not %s", want)
		}
	}
	if strings.Contains(text, "insecure") {
		t.Error("release names development builds")
	}
}
