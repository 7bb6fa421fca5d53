package snippets_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/testrun"
	"github.com/portcullis-csi/portcullis/test/snippets"
)

// samples are the kinds of sample, each with who reads it.
func samples() map[string]func(*testing.T, string) error {
	return map[string]func(*testing.T, string) error{
		"grants": grants, "waivers": waivers, "config": config, "manifest": manifest, "check": check,
		"fixtures": fixtures, "default-input": defaultInput, "layout": layout, "archive": archive, "event": event,
	}
}

// What a document shows is what the product accepts: no sample has no reader.
func TestSamplesAreAccepted(t *testing.T) {
	seen := map[string]int{}
	for _, name := range documents() {
		_, blocks := read(t, name)
		for _, b := range blocks {
			if b.Kind != snippets.Sample {
				continue
			}
			seen[b.Name]++
			if read, known := samples()[b.Name]; !known {
				t.Errorf("docs/%s:%d: nothing reads a sample of %q", name, b.Line, b.Name)
			} else if err := read(t, b.Text); err != nil {
				t.Errorf("docs/%s:%d: %v", name, b.Line, err)
			}
		}
	}
	for name := range samples() {
		if seen[name] == 0 {
			t.Errorf("no document has a sample of %q", name)
		}
	}
}

// Each reader refuses what is wrong: a sample that may be anything shows nothing.
func TestReadersOfSamplesRefuse(t *testing.T) {
	for name, wrong := range map[string]string{
		"grants":        "- id: G-1\n",
		"waivers":       "- id: W-1\n",
		"config":        "required_check: [x]\n",
		"manifest":      `{"metadata": {"contract": "portcullis/v1", "serial": 1, "not_after": "2029-01-01T00:00:00Z"}}`,
		"check":         "package portcullis.checks.x\n\ndeny contains {} if input.pod.hostPid\n",
		"fixtures":      "- name: x\n",
		"default-input": "{}",
		"layout":        ".manifest\nportcullis/checks/x.rego\n",
		"archive":       ".manifest\n",
		"event":         "{}",
	} {
		if samples()[name](t, wrong) == nil {
			t.Errorf("a sample of %s is accepted that is wrong: %s", name, wrong)
		}
	}
}

// theDay is when samples are read: they have dates.
func theDay() time.Time { return time.Date(2026, 1, 15, 0, 0, 0, 0, time.UTC) }

const (
	plainManifest = `{"metadata": {"contract": "portcullis/v1", "serial": 1}}`
	plainCheck    = "# METADATA\n# schemas:\n#   - input: schema.input\npackage portcullis.checks.%s\n\n" +
		`deny contains {"id": "PR-300", "severity": "low", "message": "m"} if input.pod.hostPID` + "\n"
)

// compiles loads a bundle of these files and of those that it needs.
func compiles(t *testing.T, files map[string]string) error {
	t.Helper()
	b, err := load(files)
	if err != nil {
		return err
	}
	_, err = policies.Compile(t.Context(), b, policies.Options{Budget: time.Minute, Clock: theDay})
	return err
}

func load(files map[string]string) (policies.Bundle, error) {
	fsys := fstest.MapFS{".manifest": {Data: []byte(plainManifest)}}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return bundle.LoadFS(fsys)
}

// lacks names what a schema has and a sample does not show.
func lacks(schema, text string) error {
	source, err := bundle.Schema(schema)
	if err != nil {
		return err
	}
	var s any
	if err := json.Unmarshal(source, &s); err != nil {
		return err
	}
	var missing []error
	for _, key := range properties(s) {
		if !regexp.MustCompile(`\b` + key + `\b`).MatchString(text) {
			missing = append(missing, fmt.Errorf("the sample of %s does not show %s", schema, key))
		}
	}
	return errors.Join(missing...)
}

func properties(schema any) []string {
	var keys []string
	switch s := schema.(type) {
	case []any:
		for _, v := range s {
			keys = append(keys, properties(v)...)
		}
	case map[string]any:
		if p, ok := s["properties"].(map[string]any); ok {
			keys = slices.Sorted(maps.Keys(p))
		}
		for _, v := range s {
			keys = append(keys, properties(v)...)
		}
	}
	return keys
}

func grants(_ *testing.T, text string) error {
	all, err := bundle.ParseGrants([]byte(text))
	if err != nil {
		return err
	}
	_, err = bundle.IndexGrants(all, nil)
	return errors.Join(err, lacks("grants", text))
}

func waivers(_ *testing.T, text string) error {
	all, err := bundle.ParseWaivers([]byte(text))
	if err != nil {
		return err
	}
	_, err = bundle.IndexWaivers(all)
	return errors.Join(err, lacks("waivers", text))
}

func config(t *testing.T, text string) error {
	t.Helper()
	return compiles(t, map[string]string{"portcullis/config/data.yaml": text, "portcullis/checks/debug/debug.rego": fmt.Sprintf(plainCheck, "debug")})
}

func manifest(t *testing.T, text string) error {
	t.Helper()
	return errors.Join(compiles(t, map[string]string{".manifest": text}), lacks("manifest", text))
}

func check(t *testing.T, text string) error {
	t.Helper()
	name := regexp.MustCompile(`(?m)^package portcullis\.checks\.(\w+)$`).FindStringSubmatch(text)
	if name == nil {
		return errors.New("the sample is no check")
	}
	return compiles(t, map[string]string{"portcullis/checks/" + name[1] + "/" + name[1] + ".rego": text})
}

func fixtures(_ *testing.T, text string) error {
	_, errs := testrun.ParseFixtures("sample.yaml", []byte(text))
	return errors.Join(errs...)
}

func defaultInput(_ *testing.T, text string) error {
	if want := string(testrun.DefaultInput()); text != want {
		return fmt.Errorf("the default input is\n%s", want)
	}
	return nil
}

// paths are the first words of the lines, with x for what a name may be.
func paths(text string) []string {
	var names []string
	for line := range strings.Lines(text) {
		names = append(names, strings.NewReplacer("<name>", "x", "*", "x").Replace(strings.Fields(line)[0]))
	}
	return names
}

// ofLayout are files that a bundle of this layout may have.
func ofLayout(names []string) map[string]string {
	files := map[string]string{}
	for _, name := range names {
		switch {
		case strings.HasSuffix(name, "/"):
			files[name+"x.yaml"] = "no part: ["
		case strings.HasSuffix(name, "_test.rego"):
			files[name] = "package portcullis.checks.x_test\n"
		case strings.HasSuffix(name, ".rego"):
			files[name] = fmt.Sprintf(plainCheck, "x")
		case strings.HasSuffix(name, "config/data.yaml"):
			files[name] = "required_checks: [x]\n"
		case strings.HasSuffix(name, ".yaml"):
			files[name] = "[]\n"
		}
	}
	return files
}

func layout(t *testing.T, text string) error {
	t.Helper()
	return compiles(t, ofLayout(paths(text)))
}

// archive compares a listing with what is in an archive of every kind of file.
func archive(_ *testing.T, text string) error {
	b, err := load(ofLayout([]string{"portcullis/checks/x/x.rego", "portcullis/checks/x/x_test.rego", "portcullis/config/data.yaml", "portcullis/grants/x.yaml", "portcullis/waivers/x.yaml"}))
	if err != nil {
		return err
	}
	var file bytes.Buffer
	if err := bundle.WriteTarball(&file, b); err != nil {
		return err
	}
	zipped, err := gzip.NewReader(&file)
	if err != nil {
		return err
	}
	var names []string
	for files := tar.NewReader(zipped); ; {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		names = append(names, h.Name)
	}
	listed := paths(text)
	slices.Sort(names)
	slices.Sort(listed)
	if !slices.Equal(names, listed) {
		return fmt.Errorf("an archive holds %q, and the sample lists %q", names, listed)
	}
	return nil
}
