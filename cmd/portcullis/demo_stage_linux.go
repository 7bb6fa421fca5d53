package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/rego"
)

//go:embed demo
var demoFiles embed.FS

// stage is the set: directories, processes, and kubelet's side of the socket.
type stage struct {
	dir       string
	keep      bool
	policy    string // bundle that decides
	bin       string // where our programs are
	processes []*process
	plugin    *process
	kubelet   *kubelet
	// metricsAddr is on loopback, with a port that was free a moment ago.
	metricsAddr string
	secrets     map[string]string // object name to value, to compare with, never to print
}

func newStage(o demoOptions) (*stage, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	s := &stage{bin: filepath.Dir(self), keep: o.keep != "", secrets: map[string]string{}}
	if s.metricsAddr, err = freeAddress(); err != nil {
		return nil, err
	}
	if s.dir, err = workDirectory(o.keep); err != nil {
		return nil, err
	}
	s.policy = s.path("policy")
	if err := s.furnish(); err != nil {
		return nil, errors.Join(err, s.clear())
	}
	if o.policy != "" {
		if err := s.decideBy(o.policy); err != nil {
			return nil, errors.Join(err, s.clear())
		}
	}
	return s, nil
}

// decideBy takes somebody's own bundle, once it is known to be one: the plugin
// would start without, and the story would fail for a reason nobody sees.
func (s *stage) decideBy(path string) (err error) {
	if s.policy, err = filepath.Abs(path); err != nil {
		return err
	}
	b, err := bundle.Open(s.policy)
	if err == nil {
		_, err = policies.Compile(context.Background(), b, policies.Options{})
	}
	if err != nil {
		return &hintedError{fmt.Errorf("read --policy: %w", err), "run portcullis policy check on it"}
	}
	return nil
}

func workDirectory(keep string) (string, error) {
	if keep == "" {
		return os.MkdirTemp("", "portcullis-demo-")
	}
	if err := os.Mkdir(keep, 0o700); err != nil {
		return "", &hintedError{err, "name a directory that does not exist yet"}
	}
	return filepath.Abs(keep)
}

// furnish writes policy, manifests and secrets, and the directories that
// kubelet would have made.
func (s *stage) furnish() error {
	for _, dir := range []string{"kubelet/pods", "providers", "state", "logs", "secrets/payments", "csi", "provider-state"} {
		if err := os.MkdirAll(s.path(dir), 0o700); err != nil {
			return err
		}
	}
	if err := s.unpack(); err != nil {
		return fmt.Errorf("unpack policy and manifests: %w", err)
	}
	for _, name := range []string{"payments/db-password", "payments/db-user", "payments/root-key"} {
		if err := s.setSecret(name); err != nil {
			return err
		}
	}
	return nil
}

// unpack writes the starter policy, with the demo's grants in place of the
// example's, and the manifests.
func (s *stage) unpack() error {
	starter, err := rego.Starter()
	if err != nil {
		return err
	}
	demo, err := fs.Sub(demoFiles, "demo")
	if err != nil {
		return err
	}
	return errors.Join(
		os.CopyFS(s.path("policy"), starter),
		os.RemoveAll(s.path("policy/portcullis/grants")),
		os.CopyFS(s.dir, demo),
	)
}

// setSecret gives an object a new random value in the provider's directory.
func (s *stage) setSecret(name string) error {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return err
	}
	value := hex.EncodeToString(b[:])
	s.secrets[name] = value
	// Replaced whole, so that the provider never reads half a secret.
	path := s.path("secrets/" + name)
	if err := os.WriteFile(path+".new", []byte(value), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func (s *stage) path(rel string) string { return filepath.Join(s.dir, rel) }

// start runs provider and plugin and waits until both answer.
func (s *stage) start(ctx context.Context) error {
	provider := &process{name: "portcullis-provider-local", args: []string{
		"--endpoint=unix://" + s.path("providers/local.sock"), "--root=" + s.path("secrets"), "--state-dir=" + s.path("provider-state"),
	}}
	if err := s.launch(ctx, provider); err != nil {
		return err
	}
	if err := provider.await(ctx, s.path("providers/local.sock")); err != nil {
		return err
	}
	return s.startPlugin(ctx)
}

func (s *stage) startPlugin(ctx context.Context) error {
	s.plugin = &process{name: "portcullis-node", args: []string{
		"--endpoint=unix://" + s.path("csi/csi.sock"), "--nodeid=demo-node", "--cluster-name=demo",
		"--kubelet-root=" + s.path("kubelet"), "--state-dir=" + s.path("state"),
		"--provider-volume=" + s.path("providers"), "--additional-provider-volume-paths=",
		"--policy=" + s.policy, "--allow-unsigned-policy", "--manifests=" + s.path("manifests"),
		"--enable-secret-rotation", "--rotation-poll-interval=1s",
		"--metrics-addr=" + s.metricsAddr, "--health-addr=",
	}}
	if err := s.launch(ctx, s.plugin); err != nil {
		return err
	}
	kubelet, err := dialKubelet(ctx, s)
	if err != nil {
		return err
	}
	s.kubelet = kubelet
	return nil
}

func (s *stage) launch(ctx context.Context, p *process) error {
	p.logPath = s.path("logs/" + p.name + ".log")
	if err := p.start(ctx, s.bin); err != nil {
		return err
	}
	s.processes = append(s.processes, p)
	return nil
}

// clear ends what runs and removes what was made. It works on a stage that was
// only half set.
func (s *stage) clear() error {
	var errs []error
	if s.kubelet != nil {
		errs = append(errs, s.kubelet.close())
	}
	for i := len(s.processes) - 1; i >= 0; i-- {
		errs = append(errs, s.processes[i].stop())
	}
	errs = append(errs, s.unmount())
	if !s.keep {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	return errors.Join(errs...)
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // returns at once
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

// metric returns the value of a metric, "" if the plugin does not have it.
func (s *stage) metric(ctx context.Context, name string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.metricsAddr+"/metrics", nil)
	if err != nil {
		return "", err
	}
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return "", fmt.Errorf("read metrics: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	scanner := bufio.NewScanner(resp.Body)
	for scanner.Scan() {
		if fields := strings.Fields(scanner.Text()); len(fields) == 2 && strings.HasPrefix(fields[0], name+"{") {
			return fields[1], nil
		}
	}
	return "", scanner.Err()
}

// unmount takes away what a demo that was cut short had mounted.
func (s *stage) unmount() error {
	volumes, err := hardening.Open(hardening.Config{KubeletRoot: s.path("kubelet"), Protection: hardening.SettingAuto})
	if err != nil {
		return fmt.Errorf("look for mounts that are left: %w", err)
	}
	mounts, err := volumes.Mounts()
	errs := []error{err}
	for _, m := range mounts {
		target, err := volumes.Target(m.PodUID, m.Volume)
		if err == nil {
			_, err = target.Detach()
			err = errors.Join(err, target.Close())
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, volumes.Close())...)
}
