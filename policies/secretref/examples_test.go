package secretref_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/portcullis-csi/portcullis/policies/secretref"
)

var update = flag.Bool("update", false, "rewrite what the published examples are read as")

// example is a class that a provider's documentation publishes, below
// testdata/examples/<provider>. Its first line says where it comes from.
type example struct {
	Metadata struct {
		Name        string
		Annotations map[string]string // of the pod, for providers that read it
	}
	Spec struct {
		Provider   string
		Parameters map[string]string
	}
}

// params are those of an example whose volume changes nothing.
func (e example) params() secretref.Params {
	return secretref.Params{
		Provider: e.Spec.Provider, Parameters: e.Spec.Parameters, PodAnnotations: e.Metadata.Annotations, Digest: digest,
	}
}

// examples returns every published example by its path.
func examples(t testing.TB) map[string]example {
	t.Helper()
	paths, err := filepath.Glob("testdata/examples/*/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("Glob(examples) = %d paths, %v, want some", len(paths), err)
	}
	all := make(map[string]example, len(paths))
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var e example
		if err := sigsyaml.Unmarshal(text, &e); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if !strings.HasPrefix(string(text), "# origin: ") {
			t.Errorf("%s does not begin with its origin", path)
		}
		if want := filepath.Base(filepath.Dir(path)); e.Spec.Provider != want {
			t.Errorf("%s is of provider %q, want %q", path, e.Spec.Provider, want)
		}
		all[path] = e
	}
	return all
}

// TestPublishedExamples: what providers publish is read as what they deliver.
// The files with the readings were checked by hand against each provider's
// documentation.
func TestPublishedExamples(t *testing.T) {
	for path, e := range examples(t) {
		t.Run(strings.TrimPrefix(path, "testdata/examples/"), func(t *testing.T) {
			reading := secretref.For(e.Spec.Provider).Read(e.params())
			text, err := json.MarshalIndent(reading, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden := strings.TrimSuffix(path, ".yaml") + ".json"
			if *update {
				if err := os.WriteFile(golden, append(text, '\n'), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(text)+"\n"); diff != "" {
				t.Errorf("Read(%s) differs (-want +got):\n%s", path, diff)
			}
		})
	}
}
