package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/portcullis-csi/portcullis/test/cluster/node"
	"github.com/portcullis-csi/portcullis/test/cluster/programs"
)

// Config of a lab. The zero value is complete.
type Config struct {
	// Name tells labs on one machine apart: "lab" where it is empty.
	Name string

	// Kubernetes is V137 where it is empty.
	Kubernetes Version

	// Limit ends the node when nobody else does: an hour where it is zero.
	Limit time.Duration

	// EndWithCaller ends the node with this process, however that ends.
	EndWithCaller bool

	// SyncFrequency is kubelet's: 5 s where it is zero, so that what production
	// does every minute happens while a test waits.
	SyncFrequency time.Duration

	// APIServerArgs are flags of kube-apiserver that take the place of the ones
	// given here, or are added to them: "--name=value".
	APIServerArgs []string

	// Progress hears what takes time. Nobody does where it is nil.
	Progress io.Writer
}

func (c Config) withDefaults() Config {
	if c.Name == "" {
		c.Name = "lab"
	}
	if c.Kubernetes == "" {
		c.Kubernetes = V137
	}
	if c.Limit == 0 {
		c.Limit = time.Hour
	}
	if c.SyncFrequency == 0 {
		c.SyncFrequency = 5 * time.Second
	}
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	return c
}

// startTimeout bounds a start on a machine that is busy.
const startTimeout = 3 * time.Minute

// Up starts a lab, and returns when its node is Ready, without a taint, and the
// default service account is there. It builds what was never built.
func Up(ctx context.Context, c Config) (*Lab, error) {
	c = c.withDefaults()
	if err := canRun(); err != nil {
		return nil, err
	}
	built, err := Build(ctx, c.Kubernetes, c.Progress)
	if err != nil {
		return nil, err
	}
	self, err := identify(os.Getpid())
	if err != nil {
		return nil, err
	}
	l := &Lab{state: state{Name: c.Name, Kubernetes: c.Kubernetes, Programs: built, Starter: self}}
	if l.dir, err = claim(l.state); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	steps := &steps{begin: time.Now(), out: c.Progress}
	if err := l.start(ctx, c, steps); err != nil {
		err = fmt.Errorf("start lab %q: %w\n%s", c.Name, err, l.lastWords())
		return nil, errors.Join(err, l.Down(context.WithoutCancel(ctx)))
	}
	return l, nil
}

// canRun says what is missing on this machine.
func canRun() error {
	if err := needRoot(); err != nil {
		return err
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return missing("set up the node's network", "ip", "iproute2")
	}
	_, err := busybox()
	return err
}

// steps tells how long a start has taken so far.
type steps struct {
	begin time.Time
	out   io.Writer
}

func (s *steps) done(what string) {
	_, _ = fmt.Fprintf(s.out, "%6.2f s  %s\n", time.Since(s.begin).Seconds(), what)
}

func (l *Lab) start(ctx context.Context, c Config, s *steps) error {
	if err := writeKeys(l.file("pki")); err != nil {
		return err
	}
	for name, text := range l.files(c) {
		path := l.file(name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
	}
	if err := makeCgroup(cgroups, l.cgroup()); err != nil {
		return err
	}
	if err := l.startNode(ctx, c); err != nil {
		return err
	}
	s.done("node's namespaces, mounts and network")
	for _, name := range []string{Etcd, Containerd, APIServer} {
		if err := l.Start(ctx, name); err != nil {
			return err
		}
	}
	loaded := make(chan error, 1)
	go func() { loaded <- l.loadFirstImages(ctx) }()
	if err := l.WaitAPIServer(ctx); err != nil {
		return errors.Join(err, <-loaded)
	}
	s.done("API server ready")
	for _, name := range []string{ControllerManager, Scheduler, Kubelet} {
		if err := l.Start(ctx, name); err != nil {
			return errors.Join(err, <-loaded)
		}
	}
	if err := <-loaded; err != nil {
		return err
	}
	s.done("images loaded")
	if err := l.WaitReady(ctx); err != nil {
		return err
	}
	s.done("node Ready, service account there")
	return nil
}

// startNode starts the first process of the node in namespaces of its own.
func (l *Lab) startNode(ctx context.Context, c Config) error {
	clone, err := programs.Root()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(l.Log("init"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	line, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	if c.EndWithCaller {
		_ = line.Close()
		var ours *os.File
		if line, ours, err = os.Pipe(); err != nil {
			return err
		}
		l.line = ours
	}
	defer line.Close()
	first, err := node.Start(filepath.Join(l.state.Programs.Node, "nodeinit"), l.spec(c, clone), log, line)
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		_ = first.Wait()
		close(ended)
	}()
	if l.state.Node, err = identify(first.Process.Pid); err != nil {
		return fmt.Errorf("the node's first process has ended: %w", err)
	}
	if err := l.state.write(l.dir); err != nil {
		return err
	}
	return waitFor(ctx, "the node's first process", ended, func(ctx context.Context) error {
		_, err := node.Ask(ctx, l.dir, node.Request{Status: true})
		return err
	})
}

// tries is the time between two.
const tries = 50 * time.Millisecond

// waitFor calls a function until it succeeds.
func waitFor(ctx context.Context, what string, ended <-chan struct{}, try func(context.Context) error) error {
	for {
		err := once(ctx, try)
		if err == nil {
			return nil
		}
		select {
		case <-ended:
			return fmt.Errorf("wait for %s: it has ended", what)
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w; last: %w", what, ctx.Err(), err)
		case <-time.After(tries):
		}
	}
}

// once bounds one try: an answer that does not come is none.
func once(ctx context.Context, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return try(ctx)
}

// ended is closed when the node has ended; the function lets go of it.
func (l *Lab) ended(ctx context.Context) (<-chan struct{}, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	c := make(chan struct{})
	go func() {
		for l.state.Node.alive() {
			select {
			case <-ctx.Done():
				return
			case <-time.After(tries):
			}
		}
		close(c)
	}()
	return c, cancel
}

// WaitAPIServer returns when the API server is ready, as after Restart.
func (l *Lab) WaitAPIServer(ctx context.Context) error {
	client, err := l.client()
	if err != nil {
		return err
	}
	ended, cancel := l.ended(ctx)
	defer cancel()
	return waitFor(ctx, "the API server", ended, func(ctx context.Context) error {
		return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
}

// WaitReady returns when the node is Ready and pods of the default service
// account are accepted and scheduled.
func (l *Lab) WaitReady(ctx context.Context) error {
	client, err := l.client()
	if err != nil {
		return err
	}
	ended, cancel := l.ended(ctx)
	defer cancel()
	return waitFor(ctx, "a Ready node", ended, func(ctx context.Context) error {
		n, err := client.CoreV1().Nodes().Get(ctx, nodeName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if len(n.Spec.Taints) > 0 || !ready(n) {
			return fmt.Errorf("node %s is not Ready or has taints %v", nodeName, n.Spec.Taints)
		}
		_, err = client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

func ready(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func (l *Lab) client() (*kubernetes.Clientset, error) {
	config, err := l.Admin()
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

// lastWords are the ends of all logs.
func (l *Lab) lastWords() string {
	const lines = 5
	text := "the last lines of its logs:"
	for _, name := range []string{"init", Etcd, Containerd, APIServer, ControllerManager, Scheduler, Kubelet} {
		text += fmt.Sprintf("\n--- %s\n%s", name, l.tail(name, lines))
	}
	return text
}
