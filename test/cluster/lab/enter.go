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
	if err := noName("dial", address); err != nil {
		return nil, err
	}
	return inNetwork(l, func() (net.Conn, error) { return new(net.Dialer).DialContext(ctx, network, address) })
}

// Listen has this process serve an address of the node's network, as that of
// NodeAddress with port 0: for the node and for its pods, as a server beside the
// cluster would.
func (l *Lab) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	if err := noName("listen at", address); err != nil {
		return nil, err
	}
	return inNetwork(l, func() (net.Listener, error) { return new(net.ListenConfig).Listen(ctx, network, address) })
}

// noName refuses what would have to be looked up.
func noName(verb, address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if net.ParseIP(host) == nil {
		return fmt.Errorf("%s %s in the node: there is no DNS; hint: give an IP address", verb, address)
	}
	return nil
}

// inNetwork has a socket made on a thread in the node's network: what is made there
// stays there.
func inNetwork[T any](l *Lab, socket func() (T, error)) (made T, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		leave, failure := l.joinNetwork()
		if failure != nil {
			err = failure
			return
		}
		// An IP address needs no other thread.
		made, err = socket()
		if leave() == nil {
			runtime.UnlockOSThread()
		} // else the thread ends with the goroutine, and nobody finds itself in the node
	}()
	<-done
	return made, err
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
