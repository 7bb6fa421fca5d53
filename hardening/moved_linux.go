package hardening

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// landed makes sure that the volume under root is where the path of its target
// leads now. The directory was opened when the call began, and while a provider
// was asked somebody may have renamed it or one above it: into another pod's
// place, for instance.
func (t *Target) landed(root *descriptor) error {
	id, _, err := root.mountID()
	if err != nil {
		return err
	}
	again, err := t.sys.Target(t.podUID, t.volume)
	if err != nil {
		return fmt.Errorf("%w (%w)", ErrChanging, err)
	}
	defer func() { _ = again.Close() }()
	// By the mount table: a lookup would enter what somebody put on top.
	stack, _, err := again.stack()
	if err != nil {
		return err
	}
	for _, m := range stack {
		if m.id == id {
			return nil
		}
	}
	return ErrChanging
}

// withdraw takes a mount off by its own root, wherever it was moved.
func withdraw(root *descriptor) error {
	// The magic link leads to the root of the mount itself, hence no UMOUNT_NOFOLLOW.
	err := unix.Unmount(root.procPath(), unix.MNT_DETACH)
	if err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: gone meanwhile
		return fmt.Errorf("unmount: %w", err)
	}
	return nil
}

// DetachMoved scrubs and unmounts the volumes of a target that are no longer at
// it, since somebody renamed the directory of the volume or one above it. Of
// those moved out of the pods directory the mount table here may show nothing.
func (s *System) DetachMoved(podUID, volume string) (Detached, error) {
	if err := checkTarget(podUID, volume); err != nil {
		return Detached{}, err
	}
	var d Detached
	key := targetKey(podUID, volume)
	err := errors.Join(s.detachMoved(key, &d), s.unlockTarget(key))
	return d, err
}

func (s *System) detachMoved(key string, d *Detached) error {
	for range maxStack {
		root, err := s.findMoved(key)
		if err != nil || root == nil {
			return err
		}
		d.scrub(root)
		err = errors.Join(withdraw(root), root.Close())
		if err != nil {
			return fmt.Errorf("detach moved volume: %w", err)
		}
		d.Ours++
	}
	return errTooMany
}

// findMoved opens a mount of a volume of this target below the pods directory,
// nil if there is none.
func (s *System) findMoved(key string) (*descriptor, error) {
	const attempts = 16
	for range attempts {
		root, sure, err := s.lookForMoved(key)
		if err != nil || root != nil || sure {
			return root, err
		}
	}
	// A volume that cannot be reached, as one below a foreign mount, must not keep
	// every other from being unmounted.
	return nil, nil //nolint:nilnil // that there is none is an answer of its own
}

// lookForMoved goes through the mount table once. It is not sure of its answer
// if a mount was not where the table has it.
func (s *System) lookForMoved(key string) (root *descriptor, sure bool, err error) {
	table, err := readMountTable()
	if err != nil {
		return nil, false, err
	}
	pods, err := s.pods.spelling()
	if err != nil {
		return nil, false, err
	}
	sure = true
	covered, others := covers(table), map[string]bool{}
	for _, m := range table {
		name, below := strings.CutPrefix(m.point, pods+"/")
		if !below || !m.ours() || covered[m.id] || others[m.device] {
			continue
		}
		root, err := s.openOwned(name, m, key)
		if root != nil {
			return root, true, nil
		}
		sure, others[m.device] = sure && err == nil, err == nil
	}
	return nil, sure, nil
}

// covers returns the ids of the mounts that another one is on top of.
func covers(table []mountLine) map[int]bool {
	points := make(map[int]string, len(table))
	for _, m := range table {
		points[m.id] = m.point
	}
	covered := map[int]bool{}
	for _, m := range table {
		if point, ok := points[m.parent]; ok && point == m.point && m.id != m.parent {
			covered[m.parent] = true
		}
	}
	return covered
}

// openOwned opens the root of a mount if it is a volume of this target. It reads
// the mount table, of which somebody can make thousands of lines, for one that
// says so of itself only.
func (s *System) openOwned(name string, m mountLine, key string) (*descriptor, error) {
	root, err := openAt(s.pods, name, openPath|unix.O_DIRECTORY, resolvePods)
	if err != nil {
		return nil, err
	}
	whose := ownerUnknown
	if err = root.seemsMount(m); err == nil {
		whose, err = ownerOf(root, key)
	}
	if err == nil && whose == ownerHere {
		err = root.isMount(m)
	}
	if err == nil && whose == ownerHere {
		return root, nil
	}
	return nil, errors.Join(err, root.Close())
}
