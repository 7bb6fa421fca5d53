package hardening_test

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/portcullis-csi/portcullis/hardening"
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

// TestP5NotDumpable shows by an unprivileged process that the kernel knows:
// its files in /proc become root's, which keeps its user's debuggers out.
func TestP5NotDumpable(t *testing.T) {
	hardeningtest.NeedRoot(t)
	out := protectedChild(t, &syscall.Credential{Uid: 65532, Gid: 65532})
	if want := "owner 65532 then 0\n"; !strings.Contains(out, want) {
		t.Errorf("child says %q, want %q in it", out[:min(len(out), 200)], want)
	}
}

func TestOpenWithoutPrivileges(t *testing.T) {
	n := newNode(t, hardening.SettingMlock)
	nobody := identity{uid: 65532, gid: 65532}
	tests := []struct {
		name string
		who  identity
		job  string
		want []string
	}{
		{"no root", nobody, "open " + n.root, []string{"privileges: ", "CAP_SYS_ADMIN"}},
		{"no locking", identity{}, "open-unlocked " + n.root, []string{"--swap-protection: ", "no CAP_IPC_LOCK and RLIMIT_MEMLOCK is 8388608", "hint: grant CAP_IPC_LOCK"}},
		{"everything", identity{}, "open " + n.root, []string{"mlock"}},
		{"no pods directory", identity{}, "open " + n.root + "/x", []string{"open pods directory", "--kubelet-root", "no such file"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := as(t, tt.who, "/", tt.job)
			for _, want := range tt.want {
				if !strings.Contains(got, want) {
					t.Errorf("Open() as %v says %q, want %q in it", tt.who, got, want)
				}
			}
		})
	}
}

// TestOpenWithoutNoswap runs where the kernel refuses the option although it
// is new enough: in a user namespace. The probe must notice, not the version.
func TestOpenWithoutNoswap(t *testing.T) {
	n := newNode(t, hardening.SettingMlock)
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = childEnviron("open " + n.root)
	self := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS, UidMappings: self, GidMappings: self}
	out, err := cmd.Output()
	if err != nil {
		hardeningtest.Missing(t, fmt.Sprintf("user namespaces are not available: %v", err))
	}
	if string(out) != "mlock" {
		t.Errorf("Open() in a user namespace says %q, want mlock", out)
	}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
