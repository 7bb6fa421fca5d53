package hardening

import (
	"fmt"
	"strconv"
	"strings"
)

// mountLine is one line of /proc/self/mountinfo; see proc_pid_mountinfo(5).
type mountLine struct {
	id, parent int
	device     string
	root       string // of the file system
	point      string
	kind       string
	source     string
	super      string // options of the superblock
}

// ours reports whether this driver made the mount. A bind of a directory
// within one of our volumes has another root and is not ours.
func (m mountLine) ours() bool { return m.made() && m.root == "/" }

// made reports whether the mount shows a volume of ours, or a part of one.
func (m mountLine) made() bool { return m.kind == "tmpfs" && m.source == Marker }

// plainTmpfs reports whether the upstream driver could have made the mount.
func (m mountLine) plainTmpfs() bool {
	return m.kind == "tmpfs" && m.source == legacySource && m.root == "/"
}

// option returns the value of a superblock option.
func (m mountLine) option(name string) (value string, ok bool) {
	for o := range strings.SplitSeq(m.super, ",") {
		key, value, _ := strings.Cut(o, "=")
		if key == name {
			return value, true
		}
	}
	return "", false
}

// number returns the value of an option in decimal digits, 0 if there is none.
func (m mountLine) number(name string) int64 {
	value, _ := m.option(name)
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// sizeBytes returns size=, which the kernel prints in KiB.
func (m mountLine) sizeBytes() int64 {
	value, _ := m.option("size")
	digits, ok := strings.CutSuffix(value, "k")
	n, err := strconv.ParseInt(digits, 10, 53)
	if !ok || err != nil || n < 0 {
		return 0
	}
	return n << 10
}

func parseMountTable(text string) ([]mountLine, error) {
	var table []mountLine
	for line := range strings.Lines(text) {
		m, err := parseMountLine(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, err
		}
		table = append(table, m)
	}
	return table, nil
}

func parseMountLine(line string) (mountLine, error) {
	before, after, ok := strings.Cut(line, " - ")
	left, right := strings.Split(before, " "), strings.Split(after, " ")
	if !ok || len(left) < 6 || len(right) < 3 {
		return mountLine{}, fmt.Errorf("parse mount table: line %+q has too few fields", clip(line))
	}
	id, err := strconv.Atoi(left[0])
	if err != nil {
		return mountLine{}, fmt.Errorf("parse mount id: %w", err)
	}
	parent, err := strconv.Atoi(left[1])
	if err != nil {
		return mountLine{}, fmt.Errorf("parse parent id: %w", err)
	}
	return mountLine{
		id: id, parent: parent, device: left[2], root: unescape(left[3]), point: unescape(left[4]),
		kind: unescape(right[0]), source: unescape(right[1]), super: right[2],
	}, nil
}

// unescape undoes \ooo, which the kernel writes for blank, tab, newline and
// backslash.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// stackAt returns the mounts stacked at point, lowest first, where base is the
// id of the mount that holds the directory itself. It follows parents, since a
// mount elsewhere in the tree can show the same path and yet be hidden.
func stackAt(table []mountLine, base int, point string) []mountLine {
	var stack []mountLine
	for len(stack) <= len(table) {
		next, ok := findMount(table, base, point)
		if !ok {
			break
		}
		stack, base = append(stack, next), next.id
	}
	return stack
}

func findMount(table []mountLine, parent int, point string) (mountLine, bool) {
	for _, m := range table {
		if m.parent == parent && m.point == point && m.id != parent {
			return m, true
		}
	}
	return mountLine{}, false
}

// inside returns the mounts that sit directly on m, below its root.
func inside(table []mountLine, m mountLine) []mountLine {
	var list []mountLine
	for _, c := range table {
		if c.parent == m.id && strings.HasPrefix(c.point, m.point+"/") {
			list = append(list, c)
		}
	}
	return list
}
