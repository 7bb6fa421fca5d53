package node

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/admin"
	"github.com/portcullis-csi/portcullis/audit/tail"
	"github.com/portcullis-csi/portcullis/doctor"
	"github.com/portcullis-csi/portcullis/hardening"
)

// DefaultProbe is how long one socket may take to answer.
const DefaultProbe = 3 * time.Second

// Config says where things are, as this process sees them. Every path is
// absolute. Required are all but PolicyPath, ProviderUIDs and Probe.
type Config struct {
	Driver       string // name of the CSI driver
	KubeletRoot  string
	CSISocket    string
	Registry     string // kubelet's plugins_registry
	ProviderDirs []string
	ProviderUIDs []int
	PolicyPath   string // "" if there is none
	StateDir     string
	HealthAddrs  []string // the first that answers counts
	Probe        time.Duration
}

func (c *Config) complete() error {
	if c.Probe <= 0 {
		c.Probe = DefaultProbe
	}
	if c.Driver == "" || len(c.ProviderDirs) == 0 || len(c.HealthAddrs) == 0 {
		return errors.New("configure doctor: Driver, ProviderDirs and HealthAddrs are required")
	}
	for _, path := range append([]string{c.KubeletRoot, c.CSISocket, c.Registry, c.StateDir}, c.ProviderDirs...) {
		if !filepath.IsAbs(path) {
			return errors.New("configure doctor: " + doctor.Printable(path) + " is not an absolute path; hint: give paths as this process sees them")
		}
	}
	return nil
}

// Is returns why this machine is no node that the Config tells of, nil if it is:
// a kubelet root, a CSI socket or a state directory is there.
func (c Config) Is() error {
	if runtime.GOOS != "linux" {
		return errors.New("this is " + runtime.GOOS + ", and nodes run Linux")
	}
	for _, path := range []string{filepath.Join(c.KubeletRoot, "pods"), c.CSISocket, c.StateDir} {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
	}
	return errors.New("this is no node of a cluster: there is neither " + filepath.Join(c.KubeletRoot, "pods") + " nor " + c.CSISocket)
}

// Gather looks at everything at once. Nothing takes longer than a few Probes.
func Gather(ctx context.Context, c Config) (*doctor.Node, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	n := &doctor.Node{
		Kernel: hardening.ProbeKernel(), Root: os.Geteuid() == 0, Swaps: swaps(), OpenFiles: openFiles(), Cgroup: cgroup(),
		ProviderDirs: c.ProviderDirs, StateDir: c.StateDir,
		Kubelet: doctor.Kubelet{Root: c.KubeletRoot, RegistryDir: c.Registry, Pods: directory(filepath.Join(c.KubeletRoot, "pods")), Registry: directory(c.Registry)},
	}
	n.Kubelet.Shared, n.Volumes = mounts(c.KubeletRoot)
	n.FreeBytes.Value, n.FreeBytes.Err = hardening.FreeBytes(c.StateDir)
	var asked sync.WaitGroup
	asked.Go(func() { n.Registration = registration(ctx, c) })
	asked.Go(func() { n.Plugin = csiPlugin(ctx, c) })
	asked.Go(func() { n.Providers = providers(ctx, c) })
	asked.Go(func() { n.Ready, n.ReadyAddr = ready(ctx, c) })
	asked.Go(func() { n.Bundle = policy(ctx, c.PolicyPath) })
	asked.Go(func() { logged(ctx, c, n) })
	asked.Wait()
	return n, nil
}

// directory returns why a path cannot be used as one.
func directory(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return errors.New(path + " is not a directory")
	}
	return nil
}

func swaps() doctor.Asked[[]string] {
	text, err := readBounded("/proc/swaps")
	if errors.Is(err, os.ErrNotExist) { // a kernel without swap
		err = nil
	}
	return doctor.Asked[[]string]{Value: parseSwaps(text), Err: err}
}

// parseSwaps reads /proc/swaps: a heading, then a line per area.
func parseSwaps(text string) []string {
	_, areas, _ := strings.Cut(text, "\n")
	var names []string
	for line := range strings.Lines(areas) {
		if fields := strings.Fields(line); len(fields) > 0 {
			names = append(names, fields[0])
		}
	}
	return names
}

// openFiles reads the soft limit of this process, 0 if it is not known.
func openFiles() uint64 {
	text, err := readBounded("/proc/self/limits")
	if err != nil {
		return 0
	}
	return parseLimit(text, "Max open files")
}

func cgroup() int {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return 2
	}
	if _, err := os.Stat("/sys/fs/cgroup/memory"); err == nil {
		return 1
	}
	return 0
}

// logged asks the plugin for the files of its log, and for the last bundle that
// it put in force. Whether the log is unaltered is not asked.
func logged(ctx context.Context, c Config, n *doctor.Node) {
	ctx, cancel := context.WithTimeout(ctx, c.Probe)
	defer cancel()
	client := admin.Dial(filepath.Join(c.StateDir, admin.SocketName), func(conn net.Conn) error { return hardening.CheckPeer(conn, []int{0, os.Geteuid()}) })
	list, err := client.Epochs(ctx)
	if err != nil {
		n.Log.Err, n.Active.Err = ownWords(err), ownWords(err)
		return
	}
	for _, e := range list {
		n.Log.Value = append(n.Log.Value, doctor.Epoch{Number: e.Number, Events: e.Size, Bytes: e.Bytes, From: e.From, To: e.To, Closed: e.Closed})
	}
	_, err = tail.Last(ctx, client, tail.Want{Last: 1, Filter: tail.Filter{Types: []string{string(audit.TypePolicyChange)}}, Show: func(e tail.Entry) error {
		if e.Event.Policy != nil {
			n.Active.Value, n.Signed = e.Event.Policy.BundleDigest, !e.Event.Policy.Unsigned
		}
		return nil
	}})
	if err != nil {
		n.Active.Err = ownWords(err)
	}
}

// ownWords drops a hint that is about other commands.
func ownWords(err error) error {
	text, _, _ := strings.Cut(err.Error(), "; hint: ")
	return errors.New(text)
}
