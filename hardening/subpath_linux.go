package hardening

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// bindings are the directories of a volume that are mounted elsewhere too, by
// generation and relative to it. The kubelet makes such a mount below
// volume-subpaths for each container with a subPath, and it shows one
// generation for as long as the container lives: emptied, it would take the
// files from a running container.
type bindings map[string][]string

// bindings reads them from the mount table. A file needs none: it keeps its
// bytes without a name.
func (v *Volume) bindings() (bindings, error) {
	table, err := readMountTable()
	if err != nil {
		return nil, err
	}
	st, err := v.root.stat()
	if err != nil {
		return nil, fmt.Errorf("examine volume: %w", err)
	}
	device := fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	found := bindings{}
	for _, m := range table {
		if m.device != device || !strings.HasPrefix(m.root, "/"+reservedStart) || !v.holdsDirectory(m.root[1:]) {
			continue
		}
		generation, rest, _ := strings.Cut(m.root[1:], "/")
		found[generation] = append(found[generation], rest)
	}
	return found, nil
}

func (v *Volume) holdsDirectory(name string) bool {
	d, err := openAt(v.root, name, openPath|unix.O_DIRECTORY, resolveInside)
	_ = d.Close()
	return err == nil
}

// prune removes from a generation whatever is not bound, or above it.
func (s *scrubber) prune(root *descriptor, generation string, bound []string) {
	var keep []string
	for _, b := range bound {
		first, _, _ := strings.Cut(b, "/")
		if first == "" {
			return // all of it
		}
		keep = append(keep, first)
	}
	dir, err := openAt(root, generation, openDir, resolveInside)
	if err != nil {
		s.fail("open generation", err)
		return
	}
	defer func() { _ = dir.Close() }()
	names, err := dir.names()
	s.fail("list generation", err)
	for _, name := range names {
		if !slices.Contains(keep, name) {
			s.remove(dir, name, maxScrubDepth)
		}
	}
}
