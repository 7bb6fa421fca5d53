package hardening

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// bindings are the entries of a volume that are mounted elsewhere too, by
// generation and relative to it. The kubelet makes such a mount below
// volume-subpaths for each container with a subPath, and it shows one
// generation for as long as the container lives. An emptied directory would
// take the files from a running container; a file without a name would keep its
// bytes, out of reach of a revocation.
type bindings map[string][]string

// bindings reads them from the mount table.
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
		if m.device != device || !strings.HasPrefix(m.root, "/"+reservedStart) {
			continue
		}
		// What is unlinked already shows as "/<generation>/<name>//deleted".
		d, err := openAt(v.root, m.root[1:], openPath, resolveInside)
		_ = d.Close()
		if err == nil {
			generation, rest, _ := strings.Cut(m.root[1:], "/")
			found[generation] = append(found[generation], rest)
		}
	}
	return found, nil
}

// prune removes from a directory whatever is not bound, or above what is.
func (s *scrubber) prune(parent *descriptor, name string, bound []string) {
	if slices.Contains(bound, "") {
		return // all of it
	}
	dir, err := openAt(parent, name, openDir, resolveInside)
	if err != nil {
		s.fail("open directory", err)
		return
	}
	defer func() { _ = dir.Close() }()
	below := map[string][]string{}
	for _, b := range bound {
		first, rest, _ := strings.Cut(b, "/")
		below[first] = append(below[first], rest)
	}
	names, err := dir.names()
	s.fail("list directory", err)
	for _, name := range names {
		if below[name] != nil {
			s.prune(dir, name, below[name])
		} else {
			s.remove(dir, name, maxScrubDepth)
		}
	}
}
