package node_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
	"github.com/portcullis-csi/portcullis/test/cluster/node"
	"github.com/portcullis-csi/portcullis/test/cluster/programs"
)

// running is a node without Kubernetes in it.
type running struct {
	dir, program string
	pid          int
	line         *os.File
	ended        chan struct{}
}

func start(t *testing.T, change func(*node.Spec)) *running {
	t.Helper()
	hardeningtest.NeedRoot(t)
	module, err := programs.Node()
	if err != nil {
		t.Fatal(err)
	}
	programsDir, err := module.Build(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	// The path of a socket is short, so not below the test's own directory.
	dir, err := os.MkdirTemp("/tmp", "node") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Mkdir(filepath.Join(dir, "log"), 0o700); err != nil {
		t.Fatal(err)
	}
	r := &running{dir: dir, program: filepath.Join(programsDir, "nodeinit"), ended: make(chan struct{})}
	theirs, ours, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	r.line = ours
	log, err := os.Create(filepath.Join(dir, "log", "init.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s := node.Spec{
		Dir: dir, Hostname: "node9", Limit: time.Minute, Addresses: []string{"198.51.100.1"}, Binds: []string{dir, programsDir},
		Daemons: []node.Daemon{{Name: "sleeper", Args: []string{"/bin/sleep", "1000"}}, {Name: "brief", Args: []string{"/bin/sh", "-c", "echo $SAYS; exit 7"}, Env: []string{"SAYS=hello"}}},
	}
	if change != nil {
		change(&s)
	}
	first, err := node.Start(r.program, s, log, theirs)
	if err != nil {
		t.Fatal(err)
	}
	r.pid = first.Process.Pid
	go func() {
		_ = first.Wait()
		close(r.ended)
	}()
	t.Cleanup(func() {
		_ = ours.Close()
		<-r.ended
	})
	for {
		if _, err = node.Ask(t.Context(), dir, node.Request{Status: true}); err == nil {
			return r
		}
		select {
		case <-r.ended:
			t.Fatalf("the node has ended: %s", r.said(t, "init"))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (r *running) said(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(r.dir, "log", name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (r *running) ask(t *testing.T, request node.Request) node.Reply {
	t.Helper()
	reply, err := node.Ask(t.Context(), r.dir, request)
	if err != nil {
		t.Fatalf("Ask(%+v) = %v, want nil", request, err)
	}
	return reply
}

func (r *running) command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, r.program, append([]string{"enter", strconv.Itoa(r.pid), "--"}, args...)...)
}

func (r *running) output(t *testing.T, args ...string) string {
	t.Helper()
	out, err := r.command(t.Context(), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q in the node = %v: %s", args, err, out)
	}
	return string(out)
}

// waitEnd fails when the node does not end, and checks what it said.
func (r *running) waitEnd(t *testing.T, want string) {
	t.Helper()
	select {
	case <-r.ended:
	case <-time.After(20 * time.Second):
		t.Fatal("the node has not ended after 20 s")
	}
	if got := r.said(t, "init"); !strings.Contains(got, want) {
		t.Errorf("the node said %q, want %q", got, want)
	}
}

func TestDaemonsLiveUntilTheyAreStopped(t *testing.T) {
	r := start(t, nil)
	first := r.ask(t, node.Request{Start: "sleeper"}).Pids["sleeper"]
	if first == 0 {
		t.Fatal("Start(sleeper) gives it no process")
	}
	if _, err := node.Ask(t.Context(), r.dir, node.Request{Start: "sleeper"}); err == nil || !strings.Contains(err.Error(), "stop it first") {
		t.Errorf("Start(what runs) = %v, want an error with the remedy", err)
	}
	for _, sig := range []syscall.Signal{0, syscall.SIGTERM} {
		if pids := r.ask(t, node.Request{Stop: "sleeper", Signal: sig}).Pids; len(pids) > 0 {
			t.Errorf("after Stop(sleeper, %v) there are %v, want none", sig, pids)
		}
		if _, err := node.Ask(t.Context(), r.dir, node.Request{Stop: "sleeper"}); err == nil || !strings.Contains(err.Error(), "does not run") {
			t.Errorf("Stop(what does not run) = %v, want an error that says so", err)
		}
		if again := r.ask(t, node.Request{Start: "sleeper"}).Pids["sleeper"]; again == 0 || again == first {
			t.Errorf("Start(sleeper) again gives process %d, want another than %d", again, first)
		}
	}
	for _, request := range []node.Request{{Start: "nobody"}, {Stop: "nobody"}, {}} {
		if _, err := node.Ask(t.Context(), r.dir, request); err == nil || !strings.Contains(err.Error(), "hint: ") {
			t.Errorf("Ask(%+v) = %v, want an error with a hint", request, err)
		}
	}
}

func TestADaemonThatDiesIsStartedAgain(t *testing.T) {
	r := start(t, nil)
	first := r.ask(t, node.Request{Start: "sleeper"}).Pids["sleeper"]
	pid := func() int { return r.ask(t, node.Request{Status: true}).Pids["sleeper"] }
	r.output(t, "kill", "-9", strconv.Itoa(first))
	await(t, "the daemon runs again", func() bool { p := pid(); return p != 0 && p != first })
	if got := r.said(t, "init"); !strings.Contains(got, "sleeper ended unasked: signal killed") {
		t.Errorf("the node said %q, want that the daemon ended", got)
	}
	// Stopping it in between counts.
	r.output(t, "kill", "-9", strconv.Itoa(pid()))
	await(t, "the daemon has ended", func() bool { return pid() == 0 })
	r.ask(t, node.Request{Stop: "sleeper"})
	time.Sleep(time.Second)
	if p := pid(); p != 0 {
		t.Errorf("the daemon is process %d after Stop, want none", p)
	}
}

func TestADaemonThatKeepsDyingEndsTheNode(t *testing.T) {
	r := start(t, nil)
	r.ask(t, node.Request{Start: "sleeper"})
	r.ask(t, node.Request{Start: "brief"})
	r.waitEnd(t, "brief ended unasked: exit status 7, 5 times")
	if got := r.said(t, "brief"); got != strings.Repeat("hello\n", 5) {
		t.Errorf("the daemon's log is %q, want what it says five times, with its environment", got)
	}
}

func TestTheNodeEndsWithItsCaller(t *testing.T) {
	r := start(t, nil)
	r.ask(t, node.Request{Start: "sleeper"})
	if err := r.line.Close(); err != nil {
		t.Fatal(err)
	}
	r.waitEnd(t, "has ended")
}

func TestTheNodeEndsWhenItsTimeIsOver(t *testing.T) {
	begin := time.Now()
	r := start(t, func(s *node.Spec) { s.Limit = 500 * time.Millisecond })
	r.waitEnd(t, "started for 500ms")
	if took := time.Since(begin); took < 500*time.Millisecond {
		t.Errorf("the node ended after %v, before its time", took)
	}
}

func TestTheNodeHasItsOwnDirectoriesAndNetwork(t *testing.T) {
	r := start(t, func(s *node.Spec) { s.Dirs = []string{"/var/lib/kubelet", "/etc/kubernetes/manifests"} })
	mark := filepath.Base(r.dir) + "-mark"
	for _, dir := range []string{"/etc", "/run", "/var", "/var/lib/kubelet", "/etc/kubernetes/manifests"} {
		path := filepath.Join(dir, mark)
		r.output(t, "touch", path)
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Stat(%s) outside the node = %v, want that it does not exist", path, err)
		}
		if _, err := os.Stat(fmt.Sprintf("/proc/%d/root%s", r.pid, path)); err != nil {
			t.Errorf("Stat(%s) through the node's root = %v, want nil", path, err)
		}
	}
	if got := r.output(t, "cat", "/etc/hostname", "/proc/sys/kernel/hostname"); !strings.HasSuffix(got, "node9\n") {
		t.Errorf("the host name is %q, want node9", got)
	}
	links := r.output(t, "ip", "-brief", "link")
	if n := strings.Count(links, "\n"); n < 2 || !strings.Contains(links, "node0") || strings.Contains(links, "eth") {
		t.Errorf("the node's links are %q, want lo and node0 and no uplink", links)
	}
	if points := r.output(t, "findmnt", "-rno", "TARGET"); strings.Count(points, r.dir) != 1 {
		t.Errorf("the node's directory is mounted more than once or not at all:\n%s", points)
	}
	// What is mounted in the node is not on the machine, and is shared in it.
	r.output(t, "mount", "-t", "tmpfs", mark, "/var/lib/kubelet")
	if text, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(text), mark) {
		t.Errorf("a mount of the node is on the machine (%v)", err)
	}
	if got := r.output(t, "findmnt", "-n", "-o", "PROPAGATION", "/var/lib/kubelet"); got != "shared\n" {
		t.Errorf("a mount of the node is %q, want shared", got)
	}
}

func TestCommandsInTheNode(t *testing.T) {
	r := start(t, nil)
	for name, c := range map[string]struct {
		args []string
		want int
	}{
		"success":        {[]string{"true"}, 0},
		"its own status": {[]string{"sh", "-c", "exit 42"}, 42},
		"a signal":       {[]string{"sh", "-c", "kill -9 $$"}, 137},
		"no such thing":  {[]string{"no-such-program"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := r.command(t.Context(), c.args...)
			_ = cmd.Run()
			if got := cmd.ProcessState.ExitCode(); got != c.want {
				t.Errorf("%q in the node ends with %d, want %d", c.args, got, c.want)
			}
		})
	}
	cmd := r.command(t.Context(), "sh", "-c", "pwd; cat")
	cmd.Dir, cmd.Stdin = r.dir, strings.NewReader("input")
	if out, err := cmd.Output(); err != nil || string(out) != r.dir+"\ninput" {
		t.Errorf("a command in the node says %q, %v, want its directory and its input", out, err)
	}
}

// TestAKilledCommandLeavesNothing: killing what entered the node kills the
// command in it.
func TestAKilledCommandLeavesNothing(t *testing.T) {
	r := start(t, nil)
	there := func() bool {
		out, _ := r.command(t.Context(), "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").Output()
		return strings.Contains(string(out), "sleep 987654")
	}
	// At different times, also before the command is what it is to be.
	for i := range 20 {
		cmd := r.command(t.Context(), "sleep", "987654")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			await(t, "the command runs in the node", there)
		}
		time.Sleep(time.Duration(i) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		await(t, "the command has ended", func() bool { return !there() })
	}
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not after 20 s: %s", what)
		}
	}
}

func TestNobodyIsAsked(t *testing.T) {
	if _, err := node.Ask(t.Context(), t.TempDir(), node.Request{Status: true}); err == nil {
		t.Error("Ask(a directory without a node) = nil, want an error")
	}
	if err := node.Run(t.TempDir()); err == nil || !strings.Contains(err.Error(), "hint: ") {
		t.Errorf("Run() in a process that is not the first = %v, want an error with a hint", err)
	}
}
