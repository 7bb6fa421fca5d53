package hardening

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Open opens the pods directory of the kubelet, finds out what the kernel can
// do, and chooses the swap protection. It refuses a node on which a volume
// could not be protected as asked, naming the remedy.
func Open(c Config) (*System, error) {
	if !filepath.IsAbs(c.KubeletRoot) {
		return nil, &ConfigError{Field: "--kubelet-root", Reason: "not an absolute path", Remedy: "use the kubelet's --root-dir, usually /var/lib/kubelet"}
	}
	offers, err := probe(c.SELinuxContext)
	if err != nil {
		return nil, err
	}
	protection, err := chooseProtection(c.Protection, offers)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(c.KubeletRoot, podsName)
	pods, err := newDescriptor(unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0))
	if err != nil {
		return nil, fmt.Errorf("open pods directory %q of --kubelet-root: %w", dir, err)
	}
	return &System{
		pods: pods, protection: protection, context: c.SELinuxContext, proc: cmp.Or(c.Proc, "/proc"),
		linger: cmp.Or(max(c.Linger, 0), defaultLinger), locks: make(map[string]*lockSet),
	}, nil
}

// Close releases the pods directory and every locked mapping: in mlock mode
// nothing is protected afterwards.
func (s *System) Close() error {
	s.mu.Lock()
	locks := s.locks
	s.locks = nil
	s.mu.Unlock()
	var errs []error
	for _, l := range locks {
		errs = append(errs, l.release())
	}
	return errors.Join(append(errs, s.pods.Close())...)
}

// Mounts lists our mounts below the pods directory, for the node's budget and
// for start-up. Mounts elsewhere, such as subPath binds, are not listed, and
// neither is a volume that is at another target than it was made for. A target
// and a file system are listed once each, however often somebody bound them.
func (s *System) Mounts() ([]Mounted, error) {
	mounts, err := s.mounts()
	if err != nil {
		return nil, err
	}
	var list []Mounted
	for _, m := range mounts {
		list = append(list, m.Mounted)
	}
	return list, nil
}

// InUse reports whether the kubelet has something to unmount: beneath its pods
// directory a volume of ours, or a part of one, at whichever target and for
// whichever it was made, or what the upstream driver may have mounted at one.
func (s *System) InUse() (bool, error) {
	table, err := readMountTable()
	if err != nil {
		return false, err
	}
	pods, err := s.pods.spelling()
	if err != nil {
		return false, err
	}
	for _, m := range table {
		if strings.HasPrefix(m.point, pods+"/") && m.made() {
			return true, nil
		}
		if _, _, target := below(pods, m.point); target && m.plainTmpfs() {
			return true, nil
		}
	}
	return false, nil
}

// found is a mount of ours, with what the start needs to know.
type found struct {
	Mounted
	lock bool // it lacks noswap, or one beneath it does
}

func (s *System) mounts() ([]found, error) {
	table, err := readMountTable()
	if err != nil {
		return nil, err
	}
	pods, err := s.pods.spelling()
	if err != nil {
		return nil, err
	}
	var list census
	var silent []mountLine
	for _, m := range table {
		uid, volume, ok := below(pods, m.point)
		if !ok || !m.ours() || list.devices[m.device] {
			continue
		}
		switch whose, err := s.ownerAt(m, uid, volume); {
		case err != nil || whose == ownerUnknown:
			silent = append(silent, m)
		case whose == ownerHere:
			list.add(m, uid, volume)
		}
	}
	// What is covered cannot be asked, and counts unless its owner was found.
	for _, m := range silent {
		if uid, volume, _ := below(pods, m.point); !list.devices[m.device] {
			list.add(m, uid, volume)
		}
	}
	return list.found, nil
}

// census lists mounts. Its zero value is empty.
type census struct {
	found   []found
	targets map[string]int // where in found
	devices map[string]bool
}

func (c *census) add(m mountLine, podUID, volume string) {
	if c.devices == nil {
		c.targets, c.devices = map[string]int{}, map[string]bool{}
	}
	c.devices[m.device] = true
	_, noswap := m.option("noswap")
	key := targetKey(podUID, volume)
	if i, ok := c.targets[key]; ok {
		c.found[i].lock = c.found[i].lock || !noswap
		return
	}
	c.targets[key] = len(c.found)
	c.found = append(c.found, found{Mounted{PodUID: podUID, Volume: volume, SizeBytes: m.sizeBytes()}, !noswap})
}

// ownerAt asks the mount on top of a target whose it is.
func (s *System) ownerAt(m mountLine, podUID, volume string) (owner, error) {
	t, err := s.Target(podUID, volume)
	if err != nil {
		return ownerUnknown, err
	}
	defer func() { _ = t.Close() }()
	return t.owner(m)
}

func below(pods, point string) (podUID, volume string, ok bool) {
	if !strings.HasPrefix(point, pods+"/") {
		return "", "", false
	}
	podUID, volume, err := ParseTargetPath(path.Dir(pods), path.Join(path.Dir(pods), podsName)+strings.TrimPrefix(point, pods))
	return podUID, volume, err == nil
}
