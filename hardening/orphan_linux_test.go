package hardening_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/hardening"
)

func TestKubeletKnows(t *testing.T) {
	n := newNode(t, hardening.SettingAuto)
	target, dir := n.place(t, "v")
	for _, want := range []bool{false, true} {
		if got, err := target.KubeletKnows(); err != nil || got != want {
			t.Errorf("KubeletKnows() = %t, %v, want %t", got, err, want)
		}
		check(t, "write", os.WriteFile(filepath.Join(filepath.Dir(dir), "vol_data.json"), []byte("{}"), 0o600))
	}
}

func TestDetachIdle(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		v, target, dir := n.publish(t, "v", hardening.Limits{Bytes: 1 << 16}, valued("a", "secret"))
		check(t, "close volume", v.Close())
		if held, err := target.Held(); held || err != nil {
			t.Errorf("Held() = %t, %v, want false", held, err)
		}
		idle(t, target)
		assertAbsent(t, dir)
		if lines := mountLines(t, dir); len(lines) > 0 {
			t.Errorf("mounted after DetachIdle(): %q", lines)
		}
		if _, err := target.DetachIdle(); !errors.Is(err, hardening.ErrNotOurs) {
			t.Errorf("DetachIdle() of nothing = %v, want %v", err, hardening.ErrNotOurs)
		}
	})
}

func TestDetachIdleLeavesWhatIsOpen(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		v, target, dir := n.publish(t, "v", hardening.Limits{Bytes: 1 << 16}, valued("a", "secret"))
		check(t, "close volume", v.Close())
		f, err := os.Open(filepath.Join(dir, "a"))
		check(t, "open", err)
		if _, err := target.DetachIdle(); !errors.Is(err, hardening.ErrBusy) {
			t.Errorf("DetachIdle() with an open file = %v, want %v", err, hardening.ErrBusy)
		}
		assertContent(t, filepath.Join(dir, "a"), "secret")
		check(t, "close", f.Close())
		idle(t, target)
	})
}

// TestDetachIdleAsksTheOtherNamespaces: the host's own processes see the volume
// through a mount that mirrors the plugin's.
func TestDetachIdleAsksTheOtherNamespaces(t *testing.T) {
	n := newNode(t, hardening.SettingAuto)
	check(t, "bind", unix.Mount(n.root, n.root, "", unix.MS_BIND, ""))
	t.Cleanup(func() { _ = unix.Unmount(n.root, unix.MNT_DETACH) })
	check(t, "share", unix.Mount("", n.root, "", unix.MS_SHARED, ""))
	n.sys = n.open(t, hardening.SettingAuto)
	v, target, dir := n.publish(t, "v", hardening.Limits{Bytes: 1 << 16}, valued("a", "secret"))
	check(t, "close volume", v.Close())
	child := inOtherNamespace(t, "exec 3<"+filepath.Join(dir, "a"))
	if held, err := target.Held(); held || err != nil {
		t.Errorf("Held() by a mirror = %t, %v, want false", held, err)
	}
	if _, err := target.DetachIdle(); !errors.Is(err, hardening.ErrBusy) {
		t.Errorf("DetachIdle() with a file open elsewhere = %v, want %v", err, hardening.ErrBusy)
	}
	child()
	idle(t, target)
}

func TestHeldByAContainer(t *testing.T) {
	for name, from := range map[string]string{"whole volume": "", "subPath": "/..data/"} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, hardening.SettingAuto)
			_, target, dir := n.publish(t, "v", hardening.Limits{Bytes: 1 << 16}, valued("a", "secret"))
			child := inOtherNamespace(t, "mount --bind "+dir+from+" "+t.TempDir())
			if held, err := target.Held(); !held || err != nil {
				t.Errorf("Held() = %t, %v, want true", held, err)
			}
			child()
			if held, err := target.Held(); held || err != nil {
				t.Errorf("Held() after its end = %t, %v, want false", held, err)
			}
		})
	}
}

func TestHeldNeedsTheNodesProcesses(t *testing.T) {
	n := newNode(t, hardening.SettingAuto)
	_, target, _ := n.publish(t, "v", hardening.Limits{Bytes: 1 << 16}, valued("a", "secret"))
	sys, err := hardening.Open(hardening.Config{KubeletRoot: n.root, Protection: hardening.SettingAuto, Proc: t.TempDir()})
	check(t, "open", err)
	defer func() { check(t, "close", sys.Close()) }()
	blind, err := sys.Target(podUID, "v")
	check(t, "target", err)
	defer func() { check(t, "close", blind.Close()) }()
	var config *hardening.ConfigError
	if _, err := blind.Held(); !errors.As(err, &config) || config.Field != "--host-proc" {
		t.Errorf("Held() without the node's processes = %v, want --host-proc named", err)
	}
	if _, err := target.Held(); err != nil {
		t.Errorf("Held() = %v, want an answer", err)
	}
}

// TestHeldInAHugeMountTable: a process in a user namespace of its own may have a
// hundred thousand mounts with long names, and lines longer than any of ours.
func TestHeldInAHugeMountTable(t *testing.T) {
	n := newNode(t, hardening.SettingAuto)
	_, _, dir := n.publish(t, "v", hardening.Limits{Bytes: 1 << 16}, valued("a", "secret"))
	ours := strings.Replace(mountLines(t, dir)[0], dir, "/elsewhere", 1) + "\n"
	other := "31 1 0:1 / /" + strings.Repeat("x", 4000) + " rw - overlay overlay rw\n"
	long := "32 1 0:1 / /y rw - overlay overlay lowerdir=" + strings.Repeat(ours[:len(ours)-1], 4000) + "\n"
	proc := t.TempDir()
	for pid, table := range map[string]string{"2": "", "7": ""} {
		check(t, "mkdir", os.Mkdir(filepath.Join(proc, pid), 0o700))
		check(t, "write", os.WriteFile(filepath.Join(proc, pid, "mountinfo"), []byte(table), 0o600))
	}
	check(t, "write", os.WriteFile(filepath.Join(proc, "2", "comm"), []byte("kthreadd\n"), 0o600))
	sys, err := hardening.Open(hardening.Config{KubeletRoot: n.root, Protection: hardening.SettingAuto, Proc: proc})
	check(t, "open", err)
	defer func() { check(t, "close", sys.Close()) }()
	target, err := sys.Target(podUID, "v")
	check(t, "target", err)
	defer func() { check(t, "close", target.Close()) }()
	huge := strings.Repeat(other, 8000) + long
	for want, table := range map[bool]string{false: huge, true: huge + ours} {
		check(t, "write", os.WriteFile(filepath.Join(proc, "7", "mountinfo"), []byte(table), 0o600))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		held, err := target.Held()
		runtime.ReadMemStats(&after)
		if held != want || err != nil {
			t.Errorf("Held() = %t, %v, want %t", held, err, want)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 4<<20 {
			t.Errorf("Held() took %d bytes of memory for a table of %d, want few", took, len(table))
		}
	}
}

// inOtherNamespace runs a command in a mount namespace of its own, as a
// container has one, and keeps that until the returned function is called.
func inOtherNamespace(t *testing.T, command string) (end func()) {
	t.Helper()
	// Not by SysProcAttr, which makes every mount private: mounts must propagate.
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--propagation", "unchanged", "/bin/sh", "-ec", command+"; echo ready; read wait")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	check(t, "pipe", err)
	out, err := cmd.StdoutPipe()
	check(t, "pipe", err)
	check(t, "start", cmd.Start())
	if _, err := out.Read(make([]byte, 6)); err != nil {
		t.Fatalf("command in its namespace: %v", err)
	}
	return func() {
		t.Helper()
		check(t, "end", in.Close())
		_ = cmd.Wait() // read(1) at the end of its input
	}
}

func idle(t *testing.T, target *hardening.Target) {
	t.Helper()
	if d, err := target.DetachIdle(); err != nil || d != (hardening.Detached{Ours: 1}) {
		t.Fatalf("DetachIdle() = %+v, %v, want one volume of ours", d, err)
	}
}
