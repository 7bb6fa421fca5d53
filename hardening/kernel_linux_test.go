package hardening_test

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// What is probed is what a volume gets.
func TestKernelIsAsVolumesFindIt(t *testing.T) {
	hardeningtest.NeedRoot(t)
	k := hardening.ProbeKernel()
	if k.MountAPI != hardening.AnswerYes || k.Missing != "" || k.Openat2 != hardening.AnswerYes || k.Xattr != hardening.AnswerYes || !k.Probed || k.Refused != nil {
		t.Fatalf("ProbeKernel() = %+v on a kernel where volumes are made", k)
	}
	root := t.TempDir()
	if err := os.Mkdir(root+"/pods", 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := hardening.Open(hardening.Config{KubeletRoot: root, Protection: hardening.SettingNoswap})
	if (err == nil) != (k.Noswap == hardening.AnswerYes) {
		t.Errorf("Open(noswap) = %v, and Noswap = %q", err, k.Noswap)
	}
	if err == nil {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Calls that cannot succeed tell what is there from what is not, for everybody.
func TestKernelOfAnybody(t *testing.T) {
	k := hardening.ProbeKernel()
	text, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil || k.Release != strings.TrimSpace(string(text)) {
		t.Errorf("Release = %q, want %q, %v", k.Release, text, err)
	}
	actions, err := os.ReadFile("/proc/sys/kernel/seccomp/actions_avail")
	if filters := err == nil && len(actions) > 0; filters != (k.Seccomp == hardening.AnswerYes) {
		t.Errorf("Seccomp = %q, and the kernel names the actions %q", k.Seccomp, actions)
	}
	if lsm, err := os.ReadFile("/sys/kernel/security/lsm"); err == nil && strings.Contains(string(lsm), "landlock") != (k.Landlock > 0) {
		t.Errorf("Landlock = %d, and the active modules are %s", k.Landlock, lsm)
	}
}

// Whoever may not mount is not told that the kernel cannot.
func TestKernelWithoutRights(t *testing.T) {
	for err, want := range map[error]hardening.Answer{
		syscall.ENOSYS: hardening.AnswerNo, syscall.EPERM: hardening.AnswerYes, syscall.EBADF: hardening.AnswerYes, nil: hardening.AnswerYes,
	} {
		if got := hardening.Served(err); got != want {
			t.Errorf("Served(%v) = %q, want %q", err, got, want)
		}
	}
}
