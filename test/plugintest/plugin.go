package plugintest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// Patience is how long a condition may take to come true. It is long, since
// machines are slow and shared, and nothing waits for it to pass.
const Patience = 60 * time.Second

// Config is a plugin to be started. Program and Socket are required.
type Config struct {
	Program string // path of the binary
	Socket  string // path of the CSI socket, which Args name as well
	Args    []string
	Env     []string // besides this process's environment
}

// Plugin is portcullis-node, running or ended.
type Plugin struct {
	Cmd     *exec.Cmd
	CSI     csi.NodeClient
	Serving chan struct{} // closed when it says that it serves
	Ended   chan struct{} // closed when it has ended

	tb     testing.TB
	mu     sync.Mutex
	output strings.Builder
}

// Launch starts a plugin and does not wait for anything.
func Launch(tb testing.TB, c Config) *Plugin {
	tb.Helper()
	p := &Plugin{tb: tb, Serving: make(chan struct{}), Ended: make(chan struct{})}
	// No test ends before its plugin: Cleanup sees to that.
	p.Cmd = exec.CommandContext(context.WithoutCancel(tb.Context()), c.Program, c.Args...)
	p.Cmd.Env = append(os.Environ(), c.Env...)
	p.Cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := p.Cmd.StderrPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := p.Cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.Kill)
	go p.follow(stderr)
	conn, err := grpc.NewClient("unix://"+c.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	p.CSI = csi.NewNodeClient(conn)
	return p
}

// Start starts a plugin, waits until it serves, and registers it as kubelet
// does.
func Start(tb testing.TB, c Config) *Plugin {
	tb.Helper()
	p := Launch(tb, c)
	p.AwaitServing()
	return p
}

// AwaitServing waits until the plugin serves, and registers it.
func (p *Plugin) AwaitServing() {
	p.tb.Helper()
	select {
	case <-p.Serving:
	case <-p.Ended:
		p.tb.Fatalf("the plugin ended by itself: %v\n%s", p.Cmd.ProcessState, p.Stderr())
	case <-time.After(Patience):
		p.tb.Fatalf("the plugin does not serve after %v\n%s", Patience, p.Stderr())
	}
	ctx, cancel := p.Context()
	defer cancel()
	if _, err := p.CSI.NodeGetInfo(ctx, &csi.NodeGetInfoRequest{}); err != nil {
		p.tb.Fatalf("NodeGetInfo() = %v, want nil\n%s", err, p.Stderr())
	}
}

// follow keeps what the plugin writes, and waits for its end.
func (p *Plugin) follow(stderr io.Reader) {
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for said := false; lines.Scan(); {
		p.mu.Lock()
		p.output.WriteString(lines.Text() + "\n")
		p.mu.Unlock()
		if !said && strings.Contains(lines.Text(), "msg=serving ") {
			said = true
			close(p.Serving)
		}
	}
	_ = p.Cmd.Wait() // how it ended is in ProcessState
	close(p.Ended)
}

// Stderr is what the plugin has written so far.
func (p *Plugin) Stderr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// Context is for one call.
func (p *Plugin) Context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(p.tb.Context(), Patience)
}

// Publish makes one NodePublishVolume call.
func (p *Plugin) Publish(req *csi.NodePublishVolumeRequest) error {
	ctx, cancel := p.Context()
	defer cancel()
	_, err := p.CSI.NodePublishVolume(ctx, req)
	return err
}

// Unpublish makes one NodeUnpublishVolume call.
func (p *Plugin) Unpublish(volumeID, target string) error {
	ctx, cancel := p.Context()
	defer cancel()
	_, err := p.CSI.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: volumeID, TargetPath: target})
	return err
}

// Kill ends the plugin as kill -9 and the out-of-memory killer do.
func (p *Plugin) Kill() {
	_ = p.Cmd.Process.Kill()
	<-p.Ended
}

// Stop ends the plugin in order.
func (p *Plugin) Stop() {
	p.tb.Helper()
	if err := p.Cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.tb.Fatal(err)
	}
	if err := p.AwaitEnd(); err != nil {
		p.tb.Fatal(err)
	}
	if code := p.Cmd.ProcessState.ExitCode(); code != 0 {
		p.tb.Fatalf("the plugin stopped with %v, want 0\n%s", p.Cmd.ProcessState, p.Stderr())
	}
}

// AwaitEnd waits until the plugin has ended.
func (p *Plugin) AwaitEnd() error {
	select {
	case <-p.Ended:
		return nil
	case <-time.After(Patience):
		return fmt.Errorf("the plugin still runs after %v", Patience)
	}
}

// Killed reports whether the plugin has ended by SIGKILL, and nothing else.
func (p *Plugin) Killed() bool {
	status, ok := p.Cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}
