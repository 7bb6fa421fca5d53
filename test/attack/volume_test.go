//go:build attack

package attack_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// sealed is what every volume that a pod sees has for flags.
const sealed = "ro,nosuid,nodev,noexec"

// described is what a reader with this content of a volume sees: mode, owner
// and bytes of each file by its path.
func described(secrets map[string]string) map[string]string {
	d := map[string]string{}
	for name, content := range secrets {
		d[name] = fmt.Sprintf("0440 0:%d %s", group, content)
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			d[dir+"/"] = fmt.Sprintf("0750 0:%d", group)
		}
	}
	return d
}

// generation reads everything below one handle of ..data, as promise P4 has
// it: opened once, read below.
func generation(target string) (map[string]string, error) {
	root, err := os.OpenRoot(target)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	data, err := root.OpenRoot("..data")
	if err != nil {
		return nil, err
	}
	defer data.Close()
	found := map[string]string{}
	err = fs.WalkDir(data.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return fmt.Errorf("no owner of %s", name)
		}
		description := fmt.Sprintf("%04o %d:%d", st.Mode&0o7777, st.Uid, st.Gid)
		if d.IsDir() {
			found[name+"/"] = description
			return nil
		}
		content, err := data.ReadFile(name)
		found[name] = description + " " + string(content)
		return err
	})
	return found, err
}

// expectVolume checks that a pod's volume is exactly this: one sealed mount,
// one generation with this content, the names that lead to it, and not one
// entry more.
func (n *node) expectVolume(p pod, secrets map[string]string) {
	n.t.Helper()
	if got := n.mounts(); !slices.Equal(got, []string{p.target}) {
		n.t.Fatalf("mounts of the node = %q, want one at %q", got, p.target)
	}
	n.expectContent(p, secrets)
	link, err := os.Readlink(p.target + "/..data")
	if err != nil {
		n.t.Fatal(err)
	}
	want := []string{"..data", link}
	for name := range secrets {
		top, _, _ := strings.Cut(name, "/")
		if !slices.Contains(want, top) {
			want = append(want, top)
		}
	}
	slices.Sort(want)
	if got := entries(n.t, p.target); !slices.Equal(got, want) {
		n.t.Fatalf("entries of the volume = %q, want %q", got, want)
	}
	for name, content := range secrets {
		if got, err := os.ReadFile(path.Join(p.target, name)); err != nil || string(got) != content {
			n.t.Fatalf("ReadFile(%q) = %d bytes, %v, want the secret's", name, len(got), err)
		}
	}
}

// expectContent checks what a pod reads below one handle of ..data.
func (n *node) expectContent(p pod, secrets map[string]string) {
	n.t.Helper()
	n.expectSealed(p)
	found, err := generation(p.target)
	if diff := cmp.Diff(described(secrets), found); err != nil || diff != "" {
		n.t.Fatalf("content below ..data: %v (-want +got):\n%s", err, diff)
	}
}

// expectSealed checks the flags of the mount of a pod.
func (n *node) expectSealed(p pod) {
	n.t.Helper()
	if got := mountFlags(n.t, p.target); !strings.HasPrefix(got, sealed+",") {
		n.t.Fatalf("flags of the volume = %q, want %s first", got, sealed)
	}
}

// expectGone checks that neither a mount nor a directory of the plugin's is
// left of a volume.
func (n *node) expectGone(p pod) {
	n.t.Helper()
	if got := n.mounts(); len(got) != 0 {
		n.t.Fatalf("mounts of the node = %q, want none", got)
	}
	if got := entries(n.t, path.Dir(p.target)); len(got) != 0 {
		n.t.Fatalf("kubelet's directory of the volume holds %q, want nothing", got)
	}
}

// entries lists a directory, sorted; one that does not exist is empty.
func entries(t testing.TB, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	names := make([]string, 0, len(list))
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// mountFlags returns the flags of the topmost mount at a point.
func mountFlags(t testing.TB, point string) (flags string) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 5 && f[4] == point {
			flags = f[5]
		}
	}
	return flags
}

// filesWithContent returns the files of a volume that have any, of all
// generations, as smaps names them.
func filesWithContent(t testing.TB, target string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(target, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			return err
		}
		if st.Size > 0 {
			files = append(files, fmt.Sprintf("%02x:%02x %d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
