package hardening

import (
	"cmp"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// The names of the layout that users of Kubernetes Secrets know: names in the
// volume are links to ..data/<name>, ..data is a link to one generation.
const (
	dataName      = "..data"
	reservedStart = ".."
)

const (
	maxPath    = 4096
	maxElement = 255
	maxDepth   = 8
	// A link with a target of 128 bytes or more takes a page of tmpfs
	// (SHORT_SYMLINK_LEN in mm/shmem.c).
	longLink = 128
)

// layout is a validated set of files.
type layout struct {
	files []File
	dirs  []string // parents before children
	names []string // first elements: the links of the volume
	gid   int
	mode  fs.FileMode // of directories
}

// newLayout checks everything about files before the first side effect.
func newLayout(files []File, l Limits) (layout, error) {
	if len(files) == 0 {
		return layout{}, ErrNoFiles
	}
	if len(files) > maxFiles {
		return layout{}, &LimitError{Field: "files", Got: int64(len(files)), Max: maxFiles, Remedy: "split the class into several volumes"}
	}
	for _, f := range files {
		if err := l.checkFile(f); err != nil {
			return layout{}, err
		}
	}
	p := layout{files: slices.Clone(files), gid: l.GID, mode: l.dirMode()}
	slices.SortFunc(p.files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	p.dirs, p.names = parents(p.files), firstElements(p.files)
	if err := p.checkConflicts(); err != nil {
		return layout{}, err
	}
	return p, p.checkSize(l)
}

// checkConflicts refuses the same path twice and a path below another file.
func (p layout) checkConflicts() error {
	seen := make(map[string]bool, len(p.files))
	for _, f := range p.files {
		if seen[f.Path] {
			return &PathError{Path: f.Path, Reason: "path is given twice", Remedy: "give each object its own alias"}
		}
		seen[f.Path] = true
	}
	for _, d := range p.dirs {
		if seen[d] {
			return &PathError{Path: d, Reason: "path is a file and a directory", Remedy: "give each object its own alias"}
		}
	}
	return nil
}

// pageBytes is what the layout takes of a tmpfs.
func (p layout) pageBytes() int64 {
	page := int64(os.Getpagesize())
	var need int64
	for _, f := range p.files {
		need += roundUp(int64(f.Data.Len()), page)
	}
	for _, n := range p.names {
		if len(linkTarget(n)) >= longLink {
			need += page
		}
	}
	return need
}

// newInodes is how many inodes a generation of this layout takes at most: its
// directories and files, all names, and the next ..data.
func (p layout) newInodes() int64 { return int64(1 + len(p.dirs) + len(p.files) + len(p.names) + 1) }

func (p layout) checkSize(l Limits) error {
	need := p.pageBytes()
	if budget := roundUp(l.Bytes, int64(os.Getpagesize())); need > budget {
		return &LimitError{Field: "volume bytes", Got: need, Max: budget, Remedy: "deliver less, or raise --max-volume-bytes"}
	}
	if need := len(p.files) + len(p.dirs); need > l.inodes() {
		return &LimitError{Field: "volume inodes", Got: int64(need), Max: int64(l.inodes()), Remedy: "use fewer files or directories"}
	}
	return nil
}

// entries returns what a generation of this layout holds, sorted by path.
func (p layout) entries() []FileInfo {
	list := make([]FileInfo, 0, len(p.files)+len(p.dirs))
	for _, d := range p.dirs {
		list = append(list, FileInfo{Path: d, GID: p.gid, Mode: p.mode | fs.ModeDir})
	}
	for _, f := range p.files {
		list = append(list, FileInfo{Path: f.Path, Size: int64(f.Data.Len()), UID: f.UID, GID: p.gid, Mode: f.Mode})
	}
	sortInfos(list)
	return list
}

func sortInfos(list []FileInfo) {
	slices.SortFunc(list, func(a, b FileInfo) int { return cmp.Compare(a.Path, b.Path) })
}

func parents(files []File) []string {
	var dirs []string
	for _, f := range files {
		for d := path.Dir(f.Path); d != "."; d = path.Dir(d) {
			dirs = append(dirs, d)
		}
	}
	slices.Sort(dirs) // "a" sorts before "a/b"
	return slices.Compact(dirs)
}

func firstElements(files []File) []string {
	names := make([]string, 0, len(files))
	for _, f := range files {
		first, _, _ := strings.Cut(f.Path, "/")
		names = append(names, first)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func linkTarget(name string) string { return dataName + "/" + name }

func octal(m fs.FileMode) string { return "0" + strconv.FormatUint(uint64(m), 8) }

func quote(s string) string { return strconv.QuoteToASCII(clip(s)) }
