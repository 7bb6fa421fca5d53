package hardening_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

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
	case "loop":
		return childLoop(name)
	case "protect":
		return childProtect()
	case "open":
		return childSystem(name)
	case "open-unlocked":
		return childWithoutLocking(name)
	}
	return runConfined(verb, name)
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

// childLoop reads ..data/name and name below descriptor 3 for half a second.
func childLoop(name string) int {
	var denied, absent, read int
	buf := make([]byte, 64)
	for end := time.Now().Add(time.Second / 2); time.Now().Before(end); {
		for _, p := range []string{"..data/" + name, name} {
			fd, err := unix.Openat(3, p, unix.O_RDONLY, 0)
			switch {
			case errors.Is(err, unix.ENOENT):
				absent++
				continue
			case err != nil:
				denied++
				continue
			}
			if n, err := unix.Read(fd, buf); err == nil && n > 0 {
				read++
			}
			_ = unix.Close(fd)
		}
	}
	fmt.Printf("denied %d absent %d read %d .", denied, absent, read)
	return 0
}

// childSystem opens a kubelet root and answers with the error.
func childSystem(root string) int {
	sys, err := hardening.Open(hardening.Config{KubeletRoot: root, Protection: hardening.SettingMlock})
	if err != nil {
		fmt.Print(err)
		return 0
	}
	fmt.Print(sys.Protection())
	return 0
}

// childWithoutLocking does so with 8 MiB to lock and without CAP_IPC_LOCK.
func childWithoutLocking(root string) int {
	runtime.LockOSThread()
	limit := unix.Rlimit{Cur: 8 << 20, Max: 8 << 20}
	if err := errors.Join(unix.Setrlimit(unix.RLIMIT_MEMLOCK, &limit), keepCapabilities(unix.CAP_SYS_ADMIN)); err != nil {
		fmt.Print(err)
		return 1
	}
	return childSystem(root)
}

// keepCapabilities drops all others from the calling thread.
func keepCapabilities(keep ...int) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	for _, c := range keep {
		data[c/32].Effective |= 1 << (c % 32)
		data[c/32].Permitted |= 1 << (c % 32)
	}
	return unix.Capset(&header, &data[0])
}

func childProtect() int {
	before := ownerOfProc()
	report, err := hardening.ProtectProcess()
	fmt.Printf("report %+v err %v\nowner %d then %d\n", report, err, before, ownerOfProc())
	status, _ := os.ReadFile("/proc/self/status")
	limits, _ := os.ReadFile("/proc/self/limits")
	fmt.Printf("%s%s", status, limits)
	if _, err := os.ReadFile("/proc/self/mountinfo"); err != nil {
		fmt.Println(err)
	}
	return 0
}

// ownerOfProc returns who owns /proc/self: root, if the process is not
// dumpable (proc(5)).
func ownerOfProc() int {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/stat", &st); err != nil {
		return -1
	}
	return int(st.Uid)
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
