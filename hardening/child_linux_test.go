package hardening_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/hardening"
)

// runChild is what a started copy of the test binary does. It answers on
// standard output.
func runChild(job string) int {
	verb, name, _ := strings.Cut(job, " ")
	switch verb {
	case "read":
		return childOpen(name, unix.O_RDONLY)
	case "write":
		return childOpen(name, unix.O_WRONLY)
	case "create":
		return childOpen(name, unix.O_WRONLY|unix.O_CREAT)
	case "protect":
		return childProtect()
	}
	fmt.Println("unknown job")
	return 2
}

// childOpen opens name below descriptor 3 and answers with the content or the
// error.
func childOpen(name string, flags int) int {
	fd, err := unix.Openat(3, name, flags, 0o600)
	if err != nil {
		fmt.Print(err)
		return 0
	}
	buf := make([]byte, 1024)
	n, err := unix.Read(fd, buf)
	if err != nil {
		fmt.Print("opened")
		return 0
	}
	fmt.Printf("%s", buf[:n])
	return 0
}

func childProtect() int {
	report, err := hardening.ProtectProcess()
	fmt.Printf("report %+v err %v\n", report, err)
	status, _ := os.ReadFile("/proc/self/status")
	limits, _ := os.ReadFile("/proc/self/limits")
	fmt.Printf("%s%s", status, limits)
	if _, err := os.ReadFile("/proc/self/mountinfo"); err != nil {
		fmt.Println(err)
	}
	return 0
}

// identity is who a process in a pod is.
type identity struct {
	uid, gid uint32
	groups   []uint32
}

func (i identity) String() string { return fmt.Sprintf("%d:%d%v", i.uid, i.gid, i.groups) }

// as runs a job in a real process of another user, with dir as descriptor 3: a
// container starts at the volume too, not at the kubelet's directories.
func as(t testing.TB, who identity, dir, job string) string {
	t.Helper()
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = childEnviron(job)
	cmd.ExtraFiles = []*os.File{d}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: who.uid, Gid: who.gid, Groups: who.groups}}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("child %q as %v: %v (%s)", job, who, err, out)
	}
	return string(out)
}

// childEnviron names the job. The race detector would let each child sleep for
// a second before it ends.
func childEnviron(job string) []string {
	return []string{childEnv + "=" + job, "GORACE=atexit_sleep_ms=0"}
}
