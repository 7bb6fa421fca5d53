package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Command is a command that runs in the node, with the administrator's
// KUBECONFIG, and with kubectl, ctr and this machine's programs in its PATH. Its
// directory is the caller's where the node has that too, as it has home
// directories, the clone and /tmp. When it is killed, so is what it started in
// its own process.
func (l *Lab) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(l.state.Programs.Node, "nodeinit"), append([]string{"enter", l.pid(), "--", name}, args...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+l.Kubeconfig(), "PATH="+l.state.Programs.path(),
		// What clients remember goes with the lab.
		"KUBECACHEDIR="+l.file("cache"), "HELM_CACHE_HOME="+l.file("helm", "cache"), "HELM_CONFIG_HOME="+l.file("helm", "config"), "HELM_DATA_HOME="+l.file("helm", "data"))
	return cmd
}

// Admin is the configuration of a client of this process, outside the node, that
// may do everything.
func (l *Lab) Admin() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", l.Kubeconfig())
	if err != nil {
		return nil, err
	}
	config.Dial, config.QPS = l.Dial, -1
	return config, nil
}

// Dial connects to an address of the node's network from outside: of the API
// server, of a pod.
func (l *Lab) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if net.ParseIP(host) == nil {
		return nil, fmt.Errorf("dial %s in the node: there is no DNS; hint: give an IP address", address)
	}
	type dialled struct {
		conn net.Conn
		err  error
	}
	done := make(chan dialled, 1)
	go func() {
		runtime.LockOSThread()
		leave, err := l.joinNetwork()
		if err != nil {
			done <- dialled{err: err}
			return
		}
		// An IP address is dialled on the calling thread.
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if leave() == nil {
			runtime.UnlockOSThread()
		} // else the thread ends with the goroutine, and nobody finds itself in the node
		done <- dialled{conn, err}
	}()
	d := <-done
	return d.conn, d.err
}

// joinNetwork moves the calling thread into the node's network, until leave.
func (l *Lab) joinNetwork() (leave func() error, err error) {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	there, err := os.Open("/proc/" + l.pid() + "/ns/net")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("enter the node's network: %w; hint: is the lab up?", err), home.Close())
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, errors.Join(fmt.Errorf("enter the node's network: %w", err), home.Close())
	}
	return func() error {
		defer home.Close()
		return unix.Setns(int(home.Fd()), unix.CLONE_NEWNET)
	}, nil
}
