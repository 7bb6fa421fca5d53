package provider

import (
	"fmt"
	"math"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/policies"
)

// Bounds of a path, those of hardening.Volume; checked here too so that
// nothing is written before everything is known to be right.
const (
	maxElement = 255
	maxDepth   = 8
)

// unparsedPrefix begins the id of a request whose parameters nobody could read
// for certain.
const unparsedPrefix = "unparsed:"

// accept compares a reply with the grant. What it returns may be written; it
// shares the contents of r.
func accept(g policies.Grant, r *reply) ([]hardening.File, Delivered, error) {
	if err := r.complete(); err != nil {
		return nil, Delivered{}, err
	}
	if err := checkPaths(r.files); err != nil {
		return nil, Delivered{}, err
	}
	granted, err := match(g.Requests(), r.files)
	if err != nil {
		return nil, Delivered{}, err
	}
	d := Delivered{Versions: sortVersions(r.versions)}
	files := make([]hardening.File, 0, len(granted))
	for _, m := range granted {
		file, clamped, err := m.file(g)
		if err != nil {
			return nil, Delivered{}, err
		}
		files = append(files, file)
		if clamped {
			d.Clamped = append(d.Clamped, file.Path)
		}
		d.Files = append(d.Files, DeliveredFile{
			Path: file.Path, Size: int64(file.Data.Len()), Mode: file.Mode, UID: int64(file.UID),
			Version: versionOf(m.request, len(granted), d.Versions),
		})
	}
	return files, d, nil
}

// complete checks a reply as upstream does, in upstream's order.
func (r *reply) complete() error {
	switch {
	case !r.decoded:
		return invalid("no message")
	case r.err != nil:
		return r.err
	case r.errorCode:
		return &fault{ProviderError, ""}
	case len(r.versions) == 0:
		return invalid("no object versions")
	case len(r.files) == 0:
		return &fault{ProviderWroteItself, ""}
	}
	return nil
}

// checkPaths refuses paths that could mean another file than they say.
func checkPaths(files []replyFile) error {
	seen := make(map[string]bool, len(files))
	for _, f := range files {
		if problem := pathProblem(f.path); problem != "" {
			return invalid(problem)
		}
		if seen[f.path] {
			return invalid("a path occurs twice")
		}
		seen[f.path] = true
	}
	for p := range seen {
		for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
			if seen[dir] {
				return invalid("a path is both a file and a directory")
			}
		}
	}
	return nil
}

// pathProblem says what is wrong with a path, without quoting it: it is text
// from outside. The rules are upstream's (fileutil.Validate), made stricter.
func pathProblem(p string) string {
	switch {
	case p == "":
		return "an empty path"
	case path.IsAbs(p):
		return "an absolute path"
	case len(p) > maxPath:
		return "a path of more than 4096 bytes"
	case !utf8.ValidString(p) || strings.ContainsFunc(p, unicode.IsControl):
		return "a path with control characters"
	case path.Clean(p) != p || p == ".":
		return "a path that is not in its shortest form"
	}
	elements := strings.Split(p, "/")
	if len(elements) > maxDepth {
		return "a path of more than 8 elements"
	}
	for _, e := range elements {
		if strings.HasPrefix(e, "..") {
			return `a path element that begins with ".."`
		}
		if len(e) > maxElement {
			return "a path element of more than 255 bytes"
		}
	}
	return ""
}

// matched is a returned file with the request that it answers.
type matched struct {
	request policies.Request
	reply   replyFile
}

// match pairs every request with its file; what is left over on either side
// is beyond the grant. Only names from the grant appear in the error.
func match(requests []policies.Request, files []replyFile) ([]matched, error) {
	if len(requests) == 1 && requests[0].File == "" && strings.HasPrefix(requests[0].Secret, unparsedPrefix) {
		// The grant names these very parameters in full, without knowing
		// their files: whatever they stand for is what was granted.
		return all(requests[0], files), nil
	}
	byPath := make(map[string]replyFile, len(files))
	for _, f := range files {
		byPath[f.path] = f
	}
	var out []matched
	var missing []string
	for _, r := range requests {
		f, ok := byPath[r.File]
		if !ok {
			missing = append(missing, r.File)
			continue
		}
		out = append(out, matched{r, f})
		delete(byPath, r.File)
	}
	if len(missing) > 0 || len(byPath) > 0 {
		return nil, &fault{BeyondGrant, difference(missing, len(byPath))}
	}
	return out, nil
}

// sameObjects compares the ids that a provider reports with those of what was
// decided on, where its ids say what it fetched: the files may have the granted
// names and other content. The ids are text from outside and not repeated.
func sameObjects(want []string, reported []ObjectVersion) error {
	if want == nil {
		return nil
	}
	missing := make(map[string]bool, len(want))
	for _, id := range want {
		missing[id] = true
	}
	for _, v := range reported {
		if !missing[v.ID] {
			return &fault{BeyondGrant, "it reports another object than the granted ones"}
		}
		delete(missing, v.ID)
	}
	if len(missing) > 0 {
		return &fault{BeyondGrant, "it does not report every granted object"}
	}
	return nil
}

// all gives every file to one request, in the order of paths.
func all(r policies.Request, files []replyFile) []matched {
	out := make([]matched, 0, len(files))
	for _, f := range files {
		out = append(out, matched{r, f})
	}
	slices.SortFunc(out, func(a, b matched) int { return strings.Compare(a.reply.path, b.reply.path) })
	return out
}

// difference names at most three missing files and counts the others.
func difference(missing []string, extra int) string {
	var parts []string
	for _, name := range missing[:min(3, len(missing))] {
		parts = append(parts, quoteName(name)+" is missing")
	}
	if n := len(missing) - 3; n > 0 {
		parts = append(parts, fmt.Sprintf("%d more are missing", n))
	}
	if extra > 0 {
		parts = append(parts, fmt.Sprintf("%d not asked for", extra))
	}
	return strings.Join(parts, ", ")
}

// quoteName shows a file name of the grant: ASCII, and not all of a long one,
// since it ends in a pod event.
func quoteName(name string) string {
	const most = 64
	switch {
	case name == "":
		return "a file"
	case len(name) > most:
		return fmt.Sprintf("%+q...", name[:most])
	}
	return fmt.Sprintf("%+q", name)
}

// file gives a returned file the mode and the owner that the grant allows.
func (m matched) file(g policies.Grant) (file hardening.File, clamped bool, err error) {
	if m.reply.mode > maxMode {
		return file, false, invalid("a file mode beyond 07777")
	}
	mode, clamped := g.FileMode(m.request, fsMode(m.reply.mode))
	if mode&0o444 == 0 {
		return file, false, invalid(fmt.Sprintf("the mode of %s leaves nobody a right to read", quoteName(m.request.File)))
	}
	owner, err := m.owner()
	return hardening.File{Path: m.reply.path, UID: owner, Mode: mode, Data: m.reply.contents}, clamped, err
}

// owner returns the granted owner, root unless the request says otherwise.
func (m matched) owner() (int, error) {
	if m.request.UID == nil {
		return 0, nil
	}
	if uid := *m.request.UID; uid >= 0 && uid <= math.MaxInt32 {
		return int(uid), nil
	}
	return 0, &fault{NotGranted, "an owner outside of 0 to 2147483647"}
}
