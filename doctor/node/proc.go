package node

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/portcullis-csi/portcullis/doctor"
	"github.com/portcullis-csi/portcullis/hardening"
)

// maxProcBytes bounds what is read of a file of /proc: a mount table has 200
// bytes a line.
const maxProcBytes = 32 << 20

func readBounded(name string) (string, error) {
	f, err := os.Open(name) //nolint:gosec // constants of this package, below /proc
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxProcBytes+1))
	if err == nil && len(text) > maxProcBytes {
		err = fmt.Errorf("%s has more than %d bytes", name, maxProcBytes)
	}
	return string(text), err
}

// parseLimit reads the soft limit of a line of /proc/self/limits.
func parseLimit(text, name string) uint64 {
	for line := range strings.Lines(text) {
		rest, found := strings.CutPrefix(line, name)
		fields := strings.Fields(rest)
		if !found || len(fields) == 0 {
			continue
		}
		if fields[0] == "unlimited" {
			return math.MaxUint64
		}
		n, err := strconv.ParseUint(fields[0], 10, 64)
		if err == nil {
			return n
		}
	}
	return 0
}

// mount is what is read of a line of the mount table (proc_pid_mountinfo(5)).
type mount struct {
	point, kind, source string
	shared, whole       bool // whole: not a directory within the file system
}

func parseMount(line string) (mount, bool) {
	before, after, found := strings.Cut(line, " - ")
	left, right := strings.Split(before, " "), strings.Fields(after)
	if !found || len(left) < 6 || len(right) < 2 {
		return mount{}, false
	}
	m := mount{point: unescape(left[4]), kind: right[0], source: unescape(right[1]), whole: left[3] == "/"}
	for _, tag := range left[6:] {
		m.shared = m.shared || strings.HasPrefix(tag, "shared:")
	}
	return m, true
}

// unescape undoes \ooo, which the kernel writes for blank, tab, newline and
// backslash.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// mounts says whether the pods directory is on a shared mount, and which volumes
// of drivers of this kind are mounted below it.
func mounts(kubeletRoot string) (shared doctor.Asked[bool], volumes doctor.Asked[[]doctor.Volume]) {
	root, err := filepath.EvalSymlinks(kubeletRoot) // as the kernel writes it
	var text string
	if err == nil {
		text, err = readBounded("/proc/self/mountinfo")
	}
	if err != nil {
		return doctor.Asked[bool]{Err: err}, doctor.Asked[[]doctor.Volume]{Err: err}
	}
	table := parseMounts(text)
	shared.Value, shared.Err = holder(table, filepath.Join(root, "pods"))
	volumes.Value = volumesBelow(table, root)
	return shared, volumes
}

func parseMounts(text string) []mount {
	var table []mount
	for line := range strings.Lines(text) {
		if m, ok := parseMount(strings.TrimSuffix(line, "\n")); ok {
			table = append(table, m)
		}
	}
	return table
}

// holder says whether the mount that holds a directory is shared: the one with
// the longest path above it, and of those the last, which covers the others.
func holder(table []mount, dir string) (bool, error) {
	best, length := mount{}, -1
	for _, m := range table {
		above := m.point == "/" || m.point == dir || strings.HasPrefix(dir, m.point+"/")
		if above && len(m.point) >= length {
			best, length = m, len(m.point)
		}
	}
	if length < 0 {
		return false, errors.New("the mount table has no mount above " + dir)
	}
	return best.shared, nil
}

// volumesBelow lists volumes of ours, and those that the upstream driver may have
// made: a plain tmpfs at a CSI target. Another driver's tmpfs looks the same, so
// that only those with the layout of kubelet's AtomicWriter count.
func volumesBelow(table []mount, root string) []doctor.Volume {
	var found []doctor.Volume
	for _, m := range table {
		uid, name, err := hardening.ParseTargetPath(root, m.point)
		if err != nil || m.kind != "tmpfs" || !m.whole {
			continue
		}
		switch m.source {
		case hardening.Marker:
			found = append(found, doctor.Volume{PodUID: uid, Name: name})
		case "tmpfs":
			if info, err := os.Lstat(filepath.Join(m.point, "..data")); err == nil && info.Mode()&os.ModeSymlink != 0 {
				found = append(found, doctor.Volume{PodUID: uid, Name: name, Legacy: true})
			}
		}
	}
	return found
}
