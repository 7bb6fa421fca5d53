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
// neither is a volume that is at another target than it was made for.
func (s *System) Mounts() ([]Mounted, error) {
	table, err := readMountTable()
	if err != nil {
		return nil, err
	}
	pods, err := s.pods.spelling()
	if err != nil {
		return nil, err
	}
	var list []Mounted
	for _, m := range table {
		if !m.ours() {
			continue
		}
		if uid, volume, ok := below(pods, m.point); ok && !s.strayed(m, uid, volume) {
			list = append(list, Mounted{PodUID: uid, Volume: volume, SizeBytes: m.sizeBytes()})
		}
	}
	return list, nil
}

// strayed reports whether a mount of ours is certainly another target's. What
// is covered cannot be asked and is not.
func (s *System) strayed(m mountLine, podUID, volume string) bool {
	t, err := s.Target(podUID, volume)
	if err != nil {
		return false
	}
	defer func() { _ = t.Close() }()
	whose, err := t.owner(m)
	return err == nil && whose == ownerElsewhere
}

func below(pods, point string) (podUID, volume string, ok bool) {
	if !strings.HasPrefix(point, pods+"/") {
		return "", "", false
	}
	podUID, volume, err := ParseTargetPath(path.Dir(pods), path.Join(path.Dir(pods), podsName)+strings.TrimPrefix(point, pods))
	return podUID, volume, err == nil
}
