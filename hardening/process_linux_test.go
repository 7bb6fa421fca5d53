package hardening_test

import (
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// protectedChild starts a process that protects itself and tells what the
// kernel says about it.
func protectedChild(t *testing.T, who *syscall.Credential) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = childEnviron("protect")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("child: %v (%s)", err, out)
	}
	return string(out)
}

func kilobytes(t *testing.T, status, key string) int {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + key + `:\s+(\d+) kB`).FindStringSubmatch(status)
	if m == nil {
		t.Fatalf("status has no %s: %q", key, status)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestP5ProtectProcess(t *testing.T) {
	hardeningtest.NeedRoot(t)
	out := protectedChild(t, nil)
	if !strings.Contains(out, "report {Dumpable:false CoreLimit:0 Locked:true LockReason:} err <nil>") {
		t.Errorf("report is %q, want everything protected", firstLine(out))
	}
	if n := kilobytes(t, out, "VmLck"); n == 0 {
		t.Errorf("VmLck = %d kB, want the process locked", n)
	}
	// Locked on fault: all of it at once would be some 40 MB.
	if n := kilobytes(t, out, "VmRSS"); n > 30<<10 {
		t.Errorf("VmRSS = %d kB, want it small although locked", n)
	}
	if !regexp.MustCompile(`(?m)^Max core file size\s+0\s+0\s`).MatchString(out) {
		t.Errorf("limits are %q, want a core limit of 0", out)
	}
}

func TestProtectProcessWithoutPrivileges(t *testing.T) {
	hardeningtest.NeedRoot(t)
	out := protectedChild(t, &syscall.Credential{Uid: 65532, Gid: 65532})
	swaps, err := os.ReadFile("/proc/swaps")
	check(t, "read swaps", err)
	want := "Locked:false LockReason:cannot allocate memory} err <nil>"
	if strings.Count(string(swaps), "\n") > 1 {
		want = "hint: grant CAP_IPC_LOCK"
	}
	if !strings.Contains(out, want) {
		t.Errorf("report is %q, want %q in it", firstLine(out), want)
	}
	if n := kilobytes(t, out, "VmLck"); n != 0 {
		t.Errorf("VmLck = %d kB, want 0 without CAP_IPC_LOCK", n)
	}
}

func TestP5ProtectedProcessLeavesNoCore(t *testing.T) {
	hardeningtest.NeedRoot(t)
	// Dumpable is what holds where core_pattern is a pipe; the kernel shows it
	// as the owner of the process's files.
	d, err := os.Stat("/proc/self/mem")
	check(t, "stat", err)
	if st, ok := d.Sys().(*unixStat); !ok || st.Uid != uint32(unix.Geteuid()) {
		t.Errorf("this process is not dumpable already: the other tests prove nothing")
	}
	out := protectedChild(t, nil)
	if !strings.Contains(out, "Dumpable:false") {
		t.Errorf("report is %q, want the flag cleared", firstLine(out))
	}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
