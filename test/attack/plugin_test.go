//go:build attack

package attack_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// plugin is portcullis-node, running or ended.
type plugin struct {
	n       *node
	cmd     *exec.Cmd
	csi     csi.NodeClient
	serving chan struct{} // closed when it says that it serves
	ended   chan struct{} // closed when it has ended

	mu     sync.Mutex
	output strings.Builder
}

// launch starts the plugin and does not wait for anything. Flags come after
// those of the node, and win.
func (n *node) launch(flags ...string) *plugin {
	n.t.Helper()
	p := &plugin{n: n, serving: make(chan struct{}), ended: make(chan struct{})}
	args := []string{
		"--nodeid=" + nodeName, "--cluster-name=test", "--policy=" + n.path("policy"), "--allow-unsigned-policy",
		"--manifests=" + n.path("manifests"), "--state-dir=" + n.path("state"), "--kubelet-root=" + n.path("kubelet"),
		"--endpoint=unix://" + n.path("csi.sock"), "--provider-volume=" + n.path("providers"), "--additional-provider-volume-paths=",
		"--metrics-addr=" + n.metrics, "--health-addr=" + n.health,
	}
	// No test ends before its plugin: Cleanup sees to that.
	p.cmd = exec.CommandContext(context.WithoutCancel(n.t.Context()), program(n.t, "portcullis-node", n.tags), append(append(args, n.flags...), flags...)...)
	p.cmd.Env = append(os.Environ(), n.env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.last = p
	n.t.Cleanup(func() {
		p.kill()
		if n.t.Failed() && n.last == p {
			n.t.Logf("the last plugin wrote\n%s", p.stderr())
		}
	})
	go p.follow(stderr)
	conn, err := grpc.NewClient("unix://"+n.path("csi.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = conn.Close() })
	p.csi = csi.NewNodeClient(conn)
	return p
}

// start starts the plugin, waits until it serves, and registers it as kubelet
// does.
func (n *node) start(flags ...string) *plugin {
	n.t.Helper()
	p := n.launch(flags...)
	select {
	case <-p.serving:
	case <-p.ended:
		n.t.Fatalf("the plugin ended by itself: %v\n%s", p.cmd.ProcessState, p.stderr())
	case <-time.After(patience):
		n.t.Fatalf("the plugin does not serve after %v\n%s", patience, p.stderr())
	}
	ctx, cancel := p.context()
	defer cancel()
	if _, err := p.csi.NodeGetInfo(ctx, &csi.NodeGetInfoRequest{}); err != nil {
		n.t.Fatalf("NodeGetInfo() = %v, want nil\n%s", err, p.stderr())
	}
	return p
}

// follow keeps what the plugin writes, and waits for its end.
func (p *plugin) follow(stderr io.Reader) {
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for said := false; lines.Scan(); {
		p.mu.Lock()
		p.output.WriteString(lines.Text() + "\n")
		p.mu.Unlock()
		if !said && strings.Contains(lines.Text(), "msg=serving ") {
			said = true
			close(p.serving)
		}
	}
	_ = p.cmd.Wait() // how it ended is in ProcessState
	close(p.ended)
}

// stderr is what the plugin has written so far.
func (p *plugin) stderr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

func (p *plugin) context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(p.n.t.Context(), patience)
}

func (p *plugin) publish(target pod) error {
	ctx, cancel := p.context()
	defer cancel()
	_, err := p.csi.NodePublishVolume(ctx, target.request())
	return err
}

func (p *plugin) unpublish(target pod) error {
	ctx, cancel := p.context()
	defer cancel()
	_, err := p.csi.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: "csi-" + target.uid, TargetPath: target.target})
	return err
}

// kill ends the plugin as kill -9 and the out-of-memory killer do.
func (p *plugin) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// stop ends the plugin in order.
func (p *plugin) stop() {
	p.n.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.n.t.Fatal(err)
	}
	if err := p.awaitEnd(); err != nil {
		p.n.t.Fatal(err)
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		p.n.t.Fatalf("the plugin stopped with %v, want 0\n%s", p.cmd.ProcessState, p.stderr())
	}
}

// awaitEnd waits until the plugin has ended.
func (p *plugin) awaitEnd() error {
	select {
	case <-p.ended:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("the plugin still runs after %v", patience)
	}
}

// killed reports whether the plugin has ended by SIGKILL, and nothing else.
func (p *plugin) killed() bool {
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// locked returns the files whose pages the plugin has locked, by the kernel's
// word: device and inode as in proc_pid_smaps(5). Paths would not do, since a
// volume is filled before it has one.
func (p *plugin) locked() map[string]bool {
	p.n.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", p.cmd.Process.Pid))
	if err != nil {
		p.n.t.Fatal(err)
	}
	files, file := map[string]bool{}, ""
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		switch {
		case !strings.HasSuffix(f[0], ":"):
			file = f[3] + " " + f[4]
		case f[0] == "VmFlags:" && slices.Contains(f, "lo"):
			files[file] = true
		}
	}
	return files
}

// opens reports whether the plugin has anything open on a file system.
func (p *plugin) opens(device uint64) bool {
	p.n.t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid)
	for _, fd := range entries(p.n.t, dir) {
		var st unix.Stat_t
		if err := unix.Stat(dir+"/"+fd, &st); err == nil && st.Dev == device {
			return true
		}
	}
	return false
}
