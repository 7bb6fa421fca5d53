package deploy_test

import (
	"flag"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/deploy"
	"github.com/portcullis-csi/portcullis/policies/rego"
)

var update = flag.Bool("update", false, "copy the starter policy and the demo's manifests into the policy template")

// The template has no policy of its own: what is copied from it is what is
// tested as the starter policy, and what it explains is what the demo plays.
func TestTemplateHoldsTheStarterPolicy(t *testing.T) {
	starter, err := rego.Starter()
	if err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]fs.FS{"policy": starter, "manifests": os.DirFS("../cmd/portcullis/demo/manifests")} {
		path := filepath.Join("policy-template", dir)
		if *update {
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(path, want); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(contents(t, want), contents(t, os.DirFS(path))); diff != "" {
			t.Errorf("%s differs from what it is a copy of; run go test ./deploy -update (-want +got):\n%s", path, diff)
		}
	}
}

func TestTemplateIsWhole(t *testing.T) {
	template, err := deploy.PolicyTemplate()
	if err != nil {
		t.Fatal(err)
	}
	embedded, onDisk := contents(t, template), contents(t, os.DirFS("policy-template"))
	if *update {
		return // what is embedded is of before
	}
	if diff := cmp.Diff(onDisk, embedded); diff != "" {
		t.Errorf("what is embedded differs (-disk +embedded):\n%s", diff)
	}
	names := slices.Sorted(maps.Keys(embedded))
	for _, want := range []string{".github/workflows/policy.yaml", "CODEOWNERS", "Makefile", "README.md", "policy/.manifest", "manifests/pods.yaml"} {
		if !slices.Contains(names, want) {
			t.Errorf("the template has no %s", want)
		}
	}
}

func contents(t *testing.T, fsys fs.FS) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(fsys, name)
		files[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
