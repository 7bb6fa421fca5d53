package hardening

import (
	"path"
	"strconv"
	"strings"
)

func (l Limits) checkFile(f File) error {
	if err := checkPath(f.Path); err != nil {
		return err
	}
	if f.UID < 0 || f.UID > maxID {
		return &PathError{Path: f.Path, Reason: "owner uid " + strconv.Itoa(f.UID) + " is out of range", Remedy: "use 0 to 2147483647"}
	}
	if c := l.ceiling(f.UID); f.Mode == 0 || f.Mode&^c != 0 {
		return &PathError{Path: f.Path, Reason: "mode " + octal(f.Mode) + " is beyond the ceiling", Remedy: "use read bits within " + octal(c)}
	}
	if f.Data == nil {
		return &PathError{Path: f.Path, Reason: "no content", Remedy: "deliver an empty value as empty, not as absent"}
	}
	return nil
}

// checkPath refuses every path that could leave its generation, hide among the
// volume's own names or exceed what the kernel takes.
func checkPath(p string) error {
	bad := func(reason string) error {
		return &PathError{Path: p, Reason: reason, Remedy: "use a relative path such as db/password"}
	}
	switch {
	case p == "":
		return bad("path is empty")
	case len(p) > maxPath:
		return bad("path is longer than 4096 bytes")
	case strings.ContainsRune(p, 0):
		return bad("path contains a NUL byte")
	case path.IsAbs(p):
		return bad("path is absolute")
	case path.Clean(p) != p || p == ".":
		return bad("path is not clean")
	}
	elements := strings.Split(p, "/")
	if len(elements) > maxDepth {
		return bad("path has more than 8 elements")
	}
	for _, e := range elements {
		if strings.HasPrefix(e, reservedStart) {
			return bad("an element starts with two dots")
		}
		if len(e) > maxElement {
			return bad("an element is longer than 255 bytes")
		}
	}
	return nil
}
