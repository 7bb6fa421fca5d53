package bundle_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
	"github.com/portcullis-csi/portcullis/policies/rego"
)

const check = `# METADATA
# schemas:
#   - input: schema.input
package portcullis.checks.odd

deny contains {"id": "PR-300", "severity": "high", "message": "m"} if input.pod.hostPID
`

// write puts a bundle into a directory.
func write(t *testing.T, files fstest.MapFS) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, files); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestLoadDirectory(t *testing.T) {
	dir := write(t, policiestest.Files(policiestest.Grants,
		policiestest.WithCheck("odd", check),
		policiestest.WithFile("portcullis/checks/odd/odd_test.rego", "this is not read"),
		policiestest.WithConfig("required_checks: [odd]"),
		policiestest.WithFile(".manifest", `{"revision":"r1","roots":["portcullis"],"rego_version":1,
			"metadata":{"contract":"portcullis/v1","serial":7,"not_after":"2026-02-01T00:00:00Z","source_commit":"abc"}}`)))
	b, err := bundle.LoadDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := policies.Manifest{
		Revision: "r1", Contract: policies.Contract, Serial: 7, SourceCommit: "abc",
		NotAfter: time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC),
	}
	if b.Manifest != want || b.Signed || len(b.Modules) != 1 {
		t.Errorf("LoadDirectory() = %+v, want manifest %+v, unsigned, one module", b, want)
	}
	e, err := policies.Compile(t.Context(), b, policies.Options{Clock: now})
	if err != nil {
		t.Fatal(err)
	}
	if d := e.Decide(t.Context(), policiestest.Input()); d.Verdict() != policies.VerdictAllow {
		t.Errorf("Decide() = %v (%v), want allow", d.Verdict(), d.Cause())
	}
}

func now() time.Time { return time.Unix(0, policiestest.Now) }

// TestLoadStarter: the files that security teams copy load from a directory.
func TestLoadStarter(t *testing.T) {
	files, err := rego.Starter()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, files); err != nil {
		t.Fatal(err)
	}
	embedded, err := bundle.LoadFS(files)
	if err != nil {
		t.Fatal(err)
	}
	b, err := bundle.LoadDirectory(dir)
	if err != nil || b.Digest != embedded.Digest {
		t.Errorf("LoadDirectory() = digest %q, %v, want %q", b.Digest, err, embedded.Digest)
	}
}

// digestOf returns the digest of a bundle with the usual grant.
func digestOf(t *testing.T, options ...policiestest.Option) string {
	t.Helper()
	b, err := bundle.LoadFS(policiestest.Files(policiestest.Grants, options...))
	if err != nil {
		t.Fatal(err)
	}
	return b.Digest
}

// TestDigestCoversWhatDecides: each part of the content has its share.
func TestDigestCoversWhatDecides(t *testing.T) {
	seen := []string{digestOf(t)}
	for name, option := range map[string]policiestest.Option{
		"check":         policiestest.WithCheck("odd", check),
		"comment there": policiestest.WithCheck("odd", check+"# a label may stand in one\n"),
		"config":        policiestest.WithConfig("mass_revoke: true"),
		"settings":      policiestest.WithConfig("checks: {odd: {a: 1}}"),
		"grants":        policiestest.WithFile("portcullis/grants/more.yaml", strings.Replace(policiestest.Grants, "G-1", "G-2", 1)),
		"waivers":       policiestest.WithWaivers(waiver),
		"serial":        policiestest.WithFile(".manifest", `{"metadata":{"contract":"portcullis/v1","serial":2}}`),
		"revision":      policiestest.WithFile(".manifest", `{"revision":"x","metadata":{"contract":"portcullis/v1","serial":1}}`),
		"end":           policiestest.WithFile(".manifest", `{"metadata":{"contract":"portcullis/v1","serial":1,"not_after":"2026-02-01T00:00:00Z"}}`),
		"commit":        policiestest.WithFile(".manifest", `{"metadata":{"contract":"portcullis/v1","serial":1,"source_commit":"abcd"}}`),
	} {
		digest := digestOf(t, option)
		if slices.Contains(seen, digest) {
			t.Errorf("digest does not change with %s", name)
		}
		seen = append(seen, digest)
	}
}

// TestDigestIsOfTheContent: how somebody wrote it down makes no difference, so
// that a directory and what is built of it have one digest.
func TestDigestIsOfTheContent(t *testing.T) {
	want := digestOf(t, policiestest.WithConfig("mass_revoke: true"))
	for name, options := range map[string][]policiestest.Option{
		"again":      {policiestest.WithConfig("mass_revoke: true")},
		"comment":    {policiestest.WithConfig("# only a comment\nmass_revoke: true")},
		"json":       {policiestest.WithFile("portcullis/config/data.json", `{"mass_revoke": true}`)},
		"empty list": {policiestest.WithConfig("mass_revoke: true"), policiestest.WithFile("portcullis/grants/more.yaml", "[]")},
		"manifest":   {policiestest.WithConfig("mass_revoke: true"), policiestest.WithFile(".manifest", `{"revision":"test","metadata":{"serial":1,"contract":"portcullis/v1"}}`)},
	} {
		files := policiestest.Files(policiestest.Grants, options...)
		b, err := bundle.LoadFS(files)
		if err != nil || b.Digest != want {
			t.Errorf("LoadFS(%s) = digest %q, %v, want %q", name, b.Digest, err, want)
		}
	}
}

// TestLoadFSRefuses lists files that somebody could believe to be in force.
func TestLoadFSRefuses(t *testing.T) {
	file := policiestest.WithFile
	tests := []struct {
		name   string
		option policiestest.Option
		want   string
	}{
		{"module elsewhere", file("main.rego", check), "no place"},
		{"module of main", file("portcullis/main/main.rego", check), "no place"},
		{"second module", file("portcullis/checks/odd/more.rego", check), "no place"},
		{"nested check", file("portcullis/checks/a/b/b.rego", check), "no place"},
		{"wasm", file("policy.wasm", "x"), "no place"},
		{"plan", file("plan.json", "{}"), "no place"},
		{"data of checks", file("portcullis/checks/data.json", "{}"), "no place"},
		{"data at the root", file("data.json", "{}"), "no place"},
		{"ready-made index", file("portcullis/grants/data.json", "{}"), "no place"},
		{"yml", file("portcullis/grants/a.yml", "[]"), "no place"},
		{"nested grants", file("portcullis/grants/team/a.yaml", "[]"), "no place"},
		{"signatures", file(".signatures.json", "{}"), "no place"},
		{"too deep", file("a/b/c/d/e/f/g/h.yaml", "[]"), "nested too deep"},
		{"ConfigMap volume", file("..2026_01_01/grants.yaml", "[]"), "ConfigMap"},
		{"large file", file("portcullis/grants/a.yaml", strings.Repeat("#", 4<<20+1)), "larger than"},
		{"config twice", func(fs fstest.MapFS) {
			policiestest.WithConfig("{}")(fs)
			file("portcullis/config/data.json", "{}")(fs)
		}, "keep one"},
		{"config key twice", policiestest.WithConfig("mass_revoke: true\nmass_revoke: false"), "written twice"},
		{"json key twice", file("portcullis/config/data.json", `{"mass_revoke": true, "mass_revoke": false}`), "written twice"},
		{"empty config", policiestest.WithConfig(""), "empty"},
		{"grant", file("portcullis/grants/a.yaml", "- {id: G-2}"), "owner: is missing"},
		{"grant id in two files", file("portcullis/grants/a.yaml", policiestest.Grants), "used twice"},
		{"waiver", policiestest.WithWaivers("- {id: W-1}"), "finding: is missing"},
		{"manifest", file(".manifest", "x"), "manifest"},
		{"manifest key", file(".manifest", `{"wasm": []}`), "unknown key \"wasm\""},
		{"roots", file(".manifest", `{"roots": ["a"]}`), "roots"},
		{"version 0", file(".manifest", `{"rego_version": 0}`), "rego_version"},
		{"file versions", file(".manifest", `{"file_rego_versions": {"/x": 0}}`), "unknown key"},
		{"not_after", file(".manifest", `{"metadata": {"not_after": "soon"}}`), "manifest"},
		{"many files", func(fs fstest.MapFS) {
			for i := range 2048 {
				file("portcullis/grants/"+strings.Repeat("a", i%50+1)+"-"+time.Duration(i).String()+".yaml", "[]")(fs)
			}
		}, "holds more than"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if b, err := bundle.LoadFS(policiestest.Files(policiestest.Grants, tt.option)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("LoadFS(%s) = %+v, %v, want an error with %q", tt.name, b, err, tt.want)
			}
		})
	}
}

// TestLoadDirectoryFollowsNoLinks: a link could take in files that whoever
// wrote the bundle never saw, and a FIFO would block for ever.
func TestLoadDirectoryFollowsNoLinks(t *testing.T) {
	plants := map[string]func(dir string) error{
		"link to a file outside": func(dir string) error {
			return os.Symlink("/etc/hostname", filepath.Join(dir, "portcullis/grants/a.yaml"))
		},
		"link to a file inside": func(dir string) error {
			return os.Symlink("test.yaml", filepath.Join(dir, "portcullis/grants/a.yaml"))
		},
		"link to a directory": func(dir string) error {
			return os.Symlink("/etc", filepath.Join(dir, "portcullis/waivers"))
		},
		"FIFO": func(dir string) error {
			return syscall.Mkfifo(filepath.Join(dir, "portcullis/grants/a.yaml"), 0o600)
		},
	}
	for name, plant := range plants {
		t.Run(name, func(t *testing.T) {
			dir := write(t, policiestest.Files(policiestest.Grants))
			if err := plant(dir); err != nil {
				t.Fatal(err)
			}
			if _, err := bundle.LoadDirectory(dir); err == nil || !strings.Contains(err.Error(), "not a regular file") {
				t.Errorf("LoadDirectory() with a %s = %v, want a refusal", name, err)
			}
		})
	}
}

func TestLoadDirectoryThatIsMissing(t *testing.T) {
	if _, err := bundle.LoadDirectory(filepath.Join(t.TempDir(), "missing")); !os.IsNotExist(err) && !strings.Contains(err.Error(), "no such file") {
		t.Errorf("LoadDirectory() = %v, want it to say that the directory is missing", err)
	}
}

// FuzzLoadDirectory: whatever three files hold, loading and compiling end
// without a panic, and what they do not grant stays ungranted.
func FuzzLoadDirectory(f *testing.F) {
	f.Add([]byte(policiestest.Manifest), []byte("mass_revoke: true"), []byte(check))
	f.Add([]byte(`{"metadata":{"contract":"portcullis/v1"}}`), []byte("monitor: {until: 2026-02-01, rules: [\"*\"]}"), []byte(""))
	f.Add([]byte("{}"), []byte("obligations: {max_file_mode: 511}"), []byte("package portcullis.main"))
	f.Add([]byte(","), []byte("{}"), []byte(check))
	f.Add([]byte("{\"metadata\":\n{\"contract\": 7, \"contract\": [}"), []byte("- a: [b"), []byte(check))
	f.Fuzz(func(t *testing.T, manifest, config, module []byte) {
		b, err := bundle.LoadFS(policiestest.Files("",
			policiestest.WithFile(".manifest", string(manifest)),
			policiestest.WithConfig(string(config)), policiestest.WithCheck("odd", string(module))))
		if err != nil {
			return
		}
		e, err := policies.Compile(t.Context(), b, policies.Options{Clock: now, Budget: 100 * time.Millisecond})
		if err != nil {
			return
		}
		if d := e.Decide(t.Context(), policiestest.Input()); d.Verdict() == policies.VerdictAllow && !d.Monitored() {
			t.Errorf("Decide() = allow without a grant: manifest %q, config %q, module %q", manifest, config, module)
		}
	})
}
