package policies_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

var update = flag.Bool("update", false, "rewrite the decisions of testdata")

// TestDecisions plays the stories of testdata: a bundle, what differs from the
// input of policiestest (RFC 7396), and the whole decision, byte for byte. Each
// is decided with and without OPA's rule index, and at every gate.
func TestDecisions(t *testing.T) {
	stories, err := filepath.Glob("testdata/decisions/*.txtar")
	if err != nil || len(stories) < 25 {
		t.Fatalf("found %d stories, %v, want at least 25", len(stories), err)
	}
	for _, path := range stories {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if len(bytes.TrimSpace(archive.Comment)) == 0 {
				t.Error("the story is not told in its first lines")
			}
			e, in := storyParts(t, archive)
			d := e.Decide(t.Context(), in)
			if other := e.WithoutIndexing().Decide(t.Context(), in); other.ID != d.ID {
				t.Errorf("Decide() without rule index = %q, want %q", summary(other), summary(d))
			}
			for _, phase := range []policies.Phase{policies.PhaseAdmission, policies.PhaseRotate, policies.PhaseCI} {
				in.Phase = phase
				if other := e.Decide(t.Context(), in); rendered(t, other) != rendered(t, d) {
					t.Errorf("Decide() in phase %s = %s, want %s", phase, rendered(t, other), rendered(t, d))
				}
			}
			compareDecision(t, path, archive, rendered(t, d))
		})
	}
}

// storyParts compiles the bundle of a story and makes its input.
func storyParts(t *testing.T, archive *txtar.Archive) (*policies.Engine, policies.Input) {
	t.Helper()
	files, in := fstest.MapFS{}, policiestest.Input()
	policiestest.WithFile(".manifest", policiestest.Manifest)(files)
	for _, f := range archive.Files {
		switch f.Name {
		case "decision.json":
		case "change.json":
			in = changed(t, in, f.Data)
		default:
			policiestest.WithFile(f.Name, string(f.Data))(files)
		}
	}
	return compile(t, files, 20*time.Second), in
}

// changed applies a JSON merge patch.
func changed(t *testing.T, in policies.Input, patch []byte) policies.Input {
	t.Helper()
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var base, change any
	if err := json.Unmarshal(text, &base); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(patch, &change); err != nil {
		t.Fatal(err)
	}
	text, err = json.Marshal(merge(base, change))
	if err != nil {
		t.Fatal(err)
	}
	var out policies.Input
	if err := policies.DecodeStrictly(text, &out); err != nil {
		t.Fatal(err)
	}
	out.NowNS = in.NowNS // as a float it would have been rounded
	return out
}

func merge(base, change any) any {
	patch, ok := change.(map[string]any)
	if !ok {
		return change
	}
	object, ok := base.(map[string]any)
	if !ok {
		object = map[string]any{}
	}
	for key, value := range patch {
		if value == nil {
			delete(object, key)
			continue
		}
		object[key] = merge(object[key], value)
	}
	return object
}

// rendered is the decision without what changes with the text of the library.
func rendered(t *testing.T, d policies.Decision) string {
	t.Helper()
	var cause string
	if d.Cause() != nil {
		cause = d.Cause().Error()
	}
	text, err := json.MarshalIndent(map[string]any{
		"verdict": d.Verdict().String(), "undecided": d.Undecided, "cause": cause, "mode": d.Mode, "monitored": d.Monitored(),
		"deny": d.Deny, "warn": d.Warn, "waivers": d.Waivers, "grants": d.Grants, "obligations": d.Obligations,
	}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n"
}

func compareDecision(t *testing.T, path string, archive *txtar.Archive, got string) {
	t.Helper()
	i := slices.IndexFunc(archive.Files, func(f txtar.File) bool { return f.Name == "decision.json" })
	if *update {
		if i < 0 {
			archive.Files = append(archive.Files, txtar.File{Name: "decision.json"})
			i = len(archive.Files) - 1
		}
		archive.Files[i].Data = []byte(got)
		if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if i < 0 {
		t.Fatalf("the story has no decision.json; hint: go test ./policies -run TestDecisions -update")
	}
	if diff := cmp.Diff(string(archive.Files[i].Data), got); diff != "" {
		t.Errorf("Decide() differs (-want +got):\n%s", diff)
	}
}
