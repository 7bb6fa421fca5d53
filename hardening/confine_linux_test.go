package hardening_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// childConfine confines itself, while other threads run, and tells what the
// kernel says about every one of them. keep are the capabilities that it begins
// with; none: all.
func childConfine(rest string, keep ...int) int {
	var threads, begun sync.WaitGroup
	stop := make(chan struct{})
	for range 8 {
		begun.Add(1)
		threads.Go(func() { runtime.LockOSThread(); begun.Done(); <-stop })
	}
	begun.Wait()
	defer threads.Wait()
	defer close(stop)
	if len(keep) > 0 && os.Getenv("PORTCULLIS_CONFINED") == "" {
		runtime.LockOSThread()
		if err := keepCapabilities(keep...); err != nil {
			fmt.Print(err)
			return 1
		}
	}
	c, err := hardening.Confine(hardening.Profile{OtherOwners: rest == "others", Args: os.Args, Env: os.Environ()})
	if err != nil {
		fmt.Print(err)
		return 0
	}
	fmt.Printf("confined %+v\n", c)
	names, _ := filepath.Glob("/proc/self/task/*/status")
	for _, name := range names {
		status, _ := os.ReadFile(name)
		fmt.Printf("%s", status)
	}
	comm, _ := os.ReadFile("/proc/self/comm")
	fmt.Printf("comm %smarker %t\n", comm, os.Getenv("PORTCULLIS_CONFINED") != "")
	return 0
}

func confinedChild(t *testing.T, job string, env ...string) string {
	t.Helper()
	hardeningtest.NeedRoot(t)
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Args = []string{"/some/where/the-plugin"}
	cmd.Env = append(childEnviron(job), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("child: %v (%s)", err, out)
	}
	return string(out)
}

// TestP5EveryThreadIsConfined: what breaks into the process finds none of the
// privileges that the container runtime gave it, in no thread.
func TestP5EveryThreadIsConfined(t *testing.T) {
	for job, want := range map[string]struct{ names, set string }{
		"confine":        {"[CAP_CHOWN CAP_SETUID CAP_IPC_LOCK CAP_SYS_ADMIN]", "0000000000204081"},
		"confine others": {"[CAP_CHOWN CAP_DAC_OVERRIDE CAP_SETUID CAP_IPC_LOCK CAP_SYS_ADMIN]", "0000000000204083"},
	} {
		t.Run(job, func(t *testing.T) {
			out := confinedChild(t, job)
			if !strings.HasPrefix(out, "confined {Capabilities:"+want.names+" NoNewPrivs:true ") || !strings.Contains(out, " Filtered:true Unfiltered:}\n") {
				t.Fatalf("Confine() says %q, want %s and a filter", firstLine(out), want.names)
			}
			threads := strings.Count(out, "\nTgid:")
			if threads < 9 {
				t.Fatalf("the child has %d threads, want those that it started", threads)
			}
			for field, value := range map[string]string{
				"CapInh": "0000000000000000", "CapAmb": "0000000000000000", "CapPrm": want.set, "CapEff": want.set, "CapBnd": want.set,
				"NoNewPrivs": "1", "Seccomp": "2",
			} {
				if got := regexp.MustCompile(`(?m)^`+field+`:\t`+value+`$`).FindAllString(out, -1); len(got) != threads {
					t.Errorf("%d of %d threads have %s %s", len(got), threads, field, value)
				}
			}
			if !strings.HasSuffix(out, "comm the-plugin\nmarker false\n") {
				t.Errorf("child ends with %q, want its name, and no marker that its environment would keep", out[max(0, len(out)-60):])
			}
		})
	}
}

// TestP5NobodySkipsTheDropping: the marker of the second stage makes nobody
// believe anything.
func TestP5NobodySkipsTheDropping(t *testing.T) {
	out := confinedChild(t, "confine", "PORTCULLIS_CONFINED=1")
	for _, want := range []string{"privileges: not dropped: the permitted set is 0", "hint: take PORTCULLIS_CONFINED=1 out of the environment"} {
		if !strings.Contains(out, want) {
			t.Errorf("Confine() in a process that is not says %q, want %q in it", out, want)
		}
	}
}

func TestConfineNamesWhatIsMissing(t *testing.T) {
	for job, want := range map[string]string{
		"confine-with-chown":            "privileges: missing: CAP_SYS_ADMIN; hint: run as root; the DaemonSet needs privileged: true",
		"confine-with-mounting":         "privileges: missing: CAP_CHOWN; hint: run as root",
		"confine-with-both others":      "privileges: missing: CAP_DAC_OVERRIDE; hint: grant it, or leave --provider-uid out",
		"confine-with-both":             "CAP_DAC_OVERRIDE cannot be dropped (operation not permitted); hint: start the plugin with CAP_SETPCAP as well, or with a bounding set of CAP_CHOWN, CAP_SETUID, CAP_SYS_ADMIN alone",
		"confine-with-both-and-dropper": "confined {Capabilities:[CAP_CHOWN CAP_SETUID CAP_SYS_ADMIN] ",
	} {
		if out := confinedChild(t, job); !strings.Contains(out, want) {
			t.Errorf("%s: Confine() says %q, want %q in it", job, out, want)
		}
	}
}

// childConfined does a job in a confined process.
func childConfined(job func()) int {
	if _, err := hardening.Confine(hardening.Profile{Args: os.Args, Env: os.Environ()}); err != nil {
		fmt.Print(err)
		return 1
	}
	job()
	return 0
}

// runConfined is the part of runChild that is about Confine.
func runConfined(verb, rest string) int {
	switch verb {
	case "confine":
		return childConfine(rest)
	case "confine-with-chown":
		return childConfine(rest, unix.CAP_CHOWN, unix.CAP_SETUID)
	case "confine-with-mounting":
		return childConfine(rest, unix.CAP_SYS_ADMIN, unix.CAP_SETUID)
	case "confine-with-both":
		return childConfine(rest, unix.CAP_CHOWN, unix.CAP_SETUID, unix.CAP_SYS_ADMIN)
	case "confine-with-both-and-dropper":
		return childConfine(rest, unix.CAP_CHOWN, unix.CAP_SETUID, unix.CAP_SYS_ADMIN, unix.CAP_SETPCAP)
	case "owners":
		return childOwners(rest)
	case "life":
		return childLife(rest)
	case "work":
		return childConfined(workOfEveryKind)
	case "x32":
		const bit = 0x40000000
		return childConfined(func() { fmt.Printf("x32 %d\n", errnoOf(unix.SYS_GETPID|bit)) })
	case "calls":
		return tryCalls()
	case "calls-confined":
		return childConfined(func() { tryCalls() })
	}
	fmt.Println("unknown job")
	return 2
}

// errnoOf makes a system call.
func errnoOf(number uintptr, args ...uintptr) syscall.Errno {
	var a [6]uintptr
	copy(a[:], args)
	_, _, errno := unix.RawSyscall6(number, a[0], a[1], a[2], a[3], a[4], a[5])
	return errno
}
