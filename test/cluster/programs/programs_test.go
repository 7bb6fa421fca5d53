package programs_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/portcullis-csi/portcullis/test/cluster/programs"
)

// small is a module that builds in a second.
func small(t *testing.T) programs.Module {
	t.Helper()
	t.Setenv("PORTCULLIS_CLUSTER", t.TempDir())
	m, err := programs.Node()
	if err != nil {
		t.Fatal(err)
	}
	m.Packages, m.Programs, m.Sources = []string{"./test/cluster/pause"}, []string{"pause"}, []string{"test/cluster/pause"}
	return m
}

// TestOneBuildServesAll: those who come at the same time wait for the first, and
// those who come later find what it has made.
func TestOneBuildServesAll(t *testing.T) {
	m := small(t)
	var mu sync.Mutex
	var said bytes.Buffer
	progress := writer(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return said.Write(p)
	})
	dirs := make([]string, 4)
	var group sync.WaitGroup
	for i := range dirs {
		group.Go(func() {
			dir, err := m.Build(t.Context(), progress)
			if err != nil {
				t.Errorf("Build() = %v, want nil", err)
			}
			dirs[i] = dir
		})
	}
	group.Wait()
	if n := strings.Count(said.String(), "building node"); n != 1 {
		t.Errorf("four builds at once built %d times, want once:\n%s", n, said.String())
	}
	for _, dir := range dirs {
		if dir != dirs[0] {
			t.Errorf("Build() = %q and %q, want one directory", dir, dirs[0])
		}
	}
	if info, err := os.Stat(filepath.Join(dirs[0], "pause")); err != nil || info.Mode()&0o111 == 0 {
		t.Errorf("Stat(pause) = %v, %v, want a program", info, err)
	}
	said.Reset()
	if again, err := m.Build(t.Context(), progress); err != nil || again != dirs[0] || said.Len() > 0 {
		t.Errorf("Build() again = %q, %v, said %q, want %q and nothing said", again, err, said.String(), dirs[0])
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// TestTheDirectoryIsNamedAfterWhatItWasBuiltFrom: nothing old is taken for new.
func TestTheDirectoryIsNamedAfterWhatItWasBuiltFrom(t *testing.T) {
	m := small(t)
	first, err := m.Build(t.Context(), &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*programs.Module){
		"flags":    func(m *programs.Module) { m.LDFlags = "-s" },
		"sources":  func(m *programs.Module) { m.Sources = append(m.Sources, "test/cluster/nodeinit") },
		"packages": func(m *programs.Module) { m.Packages = []string{"./test/cluster/pause", "./test/cluster/nodeinit"} },
	} {
		other := m
		change(&other)
		if dir, err := other.Build(t.Context(), &bytes.Buffer{}); err != nil || dir == first {
			t.Errorf("Build() with other %s = %q, %v, want another directory than %q", name, dir, err, first)
		}
	}
}

func TestABuildThatFailsLeavesNothing(t *testing.T) {
	m := small(t)
	cache := os.Getenv("PORTCULLIS_CLUSTER")
	for name, change := range map[string]func(*programs.Module){
		"no such package":   func(m *programs.Module) { m.Packages = []string{"./test/cluster/no-such-package"} },
		"a program too few": func(m *programs.Module) { m.Programs = []string{"pause", "unpause"} },
	} {
		t.Run(name, func(t *testing.T) {
			m := m
			change(&m)
			if dir, err := m.Build(t.Context(), &bytes.Buffer{}); err == nil {
				t.Errorf("Build() = %q, nil, want an error", dir)
			}
			found, err := filepath.Glob(filepath.Join(cache, "*"))
			hidden, _ := filepath.Glob(filepath.Join(cache, ".build*"))
			if err != nil || len(found)+len(hidden) != 1 || !strings.HasSuffix(found[0], ".lock") {
				t.Errorf("the cache holds %q and %q (%v), want a lock and nothing else", found, hidden, err)
			}
			if err := os.Remove(found[0]); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestVersions(t *testing.T) {
	for version, want := range map[string]string{
		programs.Kubernetes137: ".gitVersion=v1.37.",
		programs.Kubernetes135: ".gitVersion=v1.35.",
	} {
		m, err := programs.Kubernetes(version)
		if err != nil || !strings.Contains(m.LDFlags, want) || !strings.Contains(m.LDFlags, "gitMinor="+version[2:]) {
			t.Errorf("Kubernetes(%s) has the flags %q, %v, want %s", version, m.LDFlags, err, want)
		}
	}
	if _, err := programs.Kubernetes("1.12"); err == nil || !strings.Contains(err.Error(), "hint: 1.37 or 1.35") {
		t.Errorf("Kubernetes(1.12) = %v, want an error that names the versions", err)
	}
	for name, part := range map[string]func() (programs.Module, error){"containerd": programs.Containerd, "runc": programs.Runc, "cni": programs.CNI} {
		if m, err := part(); err != nil || m.Name != name || len(m.Programs) == 0 {
			t.Errorf("%s is %+v, %v", name, m, err)
		}
	}
}

// TestBothVersionsAreTheSameProgram: they differ in their go.mod only.
func TestBothVersionsAreTheSameProgram(t *testing.T) {
	root, err := programs.Root()
	if err != nil {
		t.Fatal(err)
	}
	var texts [2][]byte
	for i, dir := range []string{"hyper", "hyper135"} {
		if texts[i], err = os.ReadFile(filepath.Join(root, "test", "cluster", dir, "main.go")); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(texts[0], texts[1]) {
		t.Error("test/cluster/hyper135/main.go is not test/cluster/hyper/main.go; hint: copy it")
	}
}
