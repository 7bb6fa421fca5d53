package compile_test

import (
	"debug/buildinfo"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/deploy/image/compile"
	"github.com/portcullis-csi/portcullis/deploy/image/sourcetest"
)

func open(t *testing.T, dir, epoch string) compile.Source {
	t.Helper()
	s, err := compile.Open(t.Context(), dir, epoch)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetVersion("1.2.3"); err != nil {
		t.Fatal(err)
	}
	return s
}

func amd64() compile.Target { return compile.Target{OS: "linux", Arch: "amd64"} }

func TestOpenReadsTheCommit(t *testing.T) {
	root := sourcetest.New(t, "1.2.3")
	head := sourcetest.Git(t, root, "rev-parse", "HEAD")
	s := open(t, filepath.Join(root, "cmd", "portcullis"), "")
	if s.Root != root || s.Revision != head || s.Modified || s.Time != time.Unix(1700000000, 0).UTC() || s.Toolchain != runtime.Version() {
		t.Errorf("Open below %s at %s = %+v", root, head, s)
	}
	if want := "v1.2.3+" + head[:12]; s.Stamp != want {
		t.Errorf("stamp is %q, want %q", s.Stamp, want)
	}

	sourcetest.Write(t, filepath.Join(root, "bin", "output"), "ignored by git")
	if s := open(t, root, ""); s.Modified {
		t.Error("a tree with build output counts as modified")
	}
	sourcetest.Write(t, filepath.Join(root, "cmd", "portcullis", "new.go"), "package main\n")
	s = open(t, root, "1600000000")
	if want := "v1.2.3+" + head[:12] + ".modified"; !s.Modified || s.Stamp != want {
		t.Errorf("with a new file: modified %t, stamp %q, want true and %q", s.Modified, s.Stamp, want)
	}
	if s.Time.Unix() != 1600000000 {
		t.Errorf("with SOURCE_DATE_EPOCH time is %v", s.Time)
	}
}

func TestOpenInALinkedWorktreeReadsItsCommit(t *testing.T) {
	root := sourcetest.New(t, "1.2.3")
	linked := filepath.Join(t.TempDir(), "linked")
	sourcetest.Git(t, root, "worktree", "add", "-q", linked)
	if s := open(t, linked, ""); s.Root != linked || s.Revision != sourcetest.Git(t, root, "rev-parse", "HEAD") {
		t.Errorf("Open = %+v", s)
	}
}

// A copy inside another repository must not be said to be that one's commit.
func TestOpenWithoutRepositoryClaimsNoCommit(t *testing.T) {
	outer := sourcetest.New(t, "1.2.3")
	inner := filepath.Join(outer, "bin", "copy")
	text, err := os.ReadFile(filepath.Join(outer, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	sourcetest.Write(t, filepath.Join(inner, "go.mod"), string(text))
	if _, err := compile.Open(t.Context(), inner, ""); err == nil || !strings.Contains(err.Error(), "SOURCE_DATE_EPOCH") {
		t.Errorf("Open without a commit or a time = %v, want a hint at SOURCE_DATE_EPOCH", err)
	}
	if s := open(t, inner, "1600000000"); s.Revision != "" || s.Stamp != "v1.2.3" {
		t.Errorf("Open of a copy = %+v, want no commit", s)
	}
}

func TestOpenRefuses(t *testing.T) {
	loose := t.TempDir()
	sourcetest.Write(t, filepath.Join(loose, "go.mod"), "module "+compile.Module+"\n\ngo 1.26\n")
	foreign := t.TempDir()
	sourcetest.Write(t, filepath.Join(foreign, "go.mod"), "module example.com/other\n\ngo 1.26.8\n")
	broken := sourcetest.New(t, "1.2.3")
	if err := os.Remove(filepath.Join(broken, ".git", "HEAD")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, dir, epoch, want string }{
		{"no exact toolchain", loose, "1", "toolchain is not fixed"},
		{"another module", foreign, "1", "--source"},
		{"no such directory", filepath.Join(foreign, "none"), "1", "no such file"},
		{"an epoch in words", sourcetest.New(t, "1.2.3"), "yesterday", "SOURCE_DATE_EPOCH"},
		{"an epoch before 1970", sourcetest.New(t, "1.2.3"), "-1", "SOURCE_DATE_EPOCH"},
		{"a broken repository", broken, "1", "run git"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if s, err := compile.Open(t.Context(), c.dir, c.epoch); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Open = %+v, %v, want an error with %q", s, err, c.want)
			}
		})
	}
}

func TestSetVersionRefusesWhatIsNoTag(t *testing.T) {
	for _, version := range []string{"", "1", "1.2", "v1.2.3", "1.2.3+meta", "1.2.3 -X main.other=1", "1.2.3\n", "latest"} {
		var s compile.Source
		if err := s.SetVersion(version); err == nil {
			t.Errorf("SetVersion(%q) is accepted, stamp %q", version, s.Stamp)
		}
	}
}

func TestTaggedMeansThisCommit(t *testing.T) {
	root := sourcetest.New(t, "1.2.3")
	sourcetest.Git(t, root, "tag", "v1.2.3")
	s := open(t, root, "")
	for tag, want := range map[string]bool{"v1.2.3": true, "v1.2": false, "v1.2.4": false} {
		if got, err := s.Tagged(t.Context(), tag); err != nil || got != want {
			t.Errorf("Tagged(%q) = %t, %v, want %t", tag, got, err, want)
		}
	}
	sourcetest.Git(t, root, "commit", "-q", "--allow-empty", "-m", "later")
	s = open(t, root, "")
	if got, err := s.Tagged(t.Context(), "v1.2.3"); err != nil || got {
		t.Errorf("Tagged of a later commit = %t, %v, want false", got, err)
	}
}

// What the caller's environment holds must not reach a binary.
func TestBuildIgnoresTheEnvironment(t *testing.T) {
	root := sourcetest.New(t, "1.2.3")
	s := open(t, root, "")
	plain, err := s.Build(t.Context(), amd64(), filepath.Join(t.TempDir(), "a"), sourcetest.Programs()...)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"GOFLAGS": "-tags=insecure -race", "GOAMD64": "v3", "GOARCH": "arm64", "CGO_ENABLED": "1", "GODEBUG": "http2client=0",
		"GOWORK": "/nowhere/go.work", "GOTOOLCHAIN": "go1.0.0", "GIT_DIR": "/nowhere", "GOENV": "/nowhere",
	} {
		t.Setenv(name, value)
	}
	elsewhere := open(t, sourcetest.Clone(t, root), "")
	strange, err := elsewhere.Build(t.Context(), amd64(), filepath.Join(t.TempDir(), "b"), sourcetest.Programs()...)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range plain {
		if p.SHA256 != strange[i].SHA256 {
			t.Errorf("%s differs between two clones and environments", p.Name)
		}
		out, err := exec.CommandContext(t.Context(), p.Path).CombinedOutput()
		if err != nil || string(out) != s.Stamp {
			t.Errorf("%s says %q, %v, want %q", p.Name, out, err, s.Stamp)
		}
	}
}

func TestBuildForEveryTarget(t *testing.T) {
	s := open(t, sourcetest.New(t, "1.2.3"), "")
	for _, target := range compile.Targets() {
		target.Insecure = true
		dir := filepath.Join(t.TempDir(), target.Arch)
		built, err := s.Build(t.Context(), target, dir, "portcullis")
		if err != nil {
			t.Fatal(err)
		}
		info, err := buildinfo.ReadFile(built[0].Path)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(info.Settings, isSetting("GOARCH", target.Arch)) || !slices.ContainsFunc(info.Settings, isSetting("-tags", "insecure")) {
			t.Errorf("binary for %s says %v", target, info.Settings)
		}
		if text := info.String(); strings.Contains(text, s.Root) {
			t.Errorf("binary for %s names the directory that it was built in:\n%s", target, text)
		}
	}
	if _, err := compile.ParseTarget("linux/s390x"); err == nil || !strings.Contains(err.Error(), "linux/arm64") {
		t.Errorf("ParseTarget of another platform = %v, want an error that lists those there are", err)
	}
}

func TestInspectRefusesWhatWasNotAskedFor(t *testing.T) {
	s := open(t, sourcetest.New(t, "1.2.3"), "")
	dir := t.TempDir()
	built, err := s.Build(t.Context(), amd64(), dir, "portcullis")
	if err != nil {
		t.Fatal(err)
	}
	path := built[0].Path
	dynamic := filepath.Join(dir, "dynamic")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-buildmode=pie",
		"-ldflags=-linkmode=internal -X main.stamped="+s.Stamp, "-o", dynamic, "./cmd/portcullis")
	cmd.Dir, cmd.Env = s.Root, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOOS=linux", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	other := s
	other.Toolchain = "go1.0.0"
	unstamped := s
	unstamped.Stamp = "v9.9.9"
	for _, c := range []struct {
		name, path string
		source     compile.Source
		target     compile.Target
		want       string
	}{
		{"another toolchain", path, other, amd64(), "made by"},
		{"another platform", path, s, compile.Target{OS: "linux", Arch: "arm64"}, "made for"},
		{"not the development build", path, s, compile.Target{OS: "linux", Arch: "amd64", Insecure: true}, "build tags"},
		{"another version", path, unstamped, amd64(), "does not hold its version"},
		{"an interpreter", dynamic, s, amd64(), "not static"},
		{"no Go program", "/bin/sh", s, amd64(), "inspect binary"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if b, err := compile.Inspect(&c.source, c.target, c.path); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("inspect = %+v, %v, want an error with %q", b, err, c.want)
			}
		})
	}
	if _, err := compile.Inspect(&s, amd64(), path); err != nil {
		t.Errorf("inspect of what was asked for: %v", err)
	}
}

func TestBuildSaysWhatTheCompilerSays(t *testing.T) {
	root := sourcetest.New(t, "1.2.3")
	sourcetest.Write(t, filepath.Join(root, "cmd", "portcullis", "main.go"), "package main\n\nfunc main() { undefined() }\n")
	s := open(t, root, "")
	if _, err := s.Build(t.Context(), amd64(), t.TempDir(), "portcullis"); err == nil || !strings.Contains(err.Error(), "undefined: undefined") {
		t.Errorf("Build of a broken program = %v, want the compiler's words", err)
	}
}

func isSetting(key, value string) func(s debug.BuildSetting) bool {
	return func(s debug.BuildSetting) bool { return s.Key == key && s.Value == value }
}
