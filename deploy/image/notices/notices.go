package notices

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"

	"github.com/portcullis-csi/portcullis/deploy/image/compile"
)

// covered is how much of a text must be words of a licence, in percent. The
// rest are names and years.
const covered = 75

// Standard is the name under which the standard library is listed.
const Standard = "std"

// Module is a source of linked code with its licences.
type Module struct {
	Path, Version string
	Licenses      []string // SPDX identifiers, sorted
	texts         []text
}

type text struct {
	name string // relative to the module
	data []byte
}

// Collect returns the modules of the packages, sorted by path; goroot is where
// the standard library's licence lies.
func Collect(packages []compile.Linked, goroot string) ([]Module, error) {
	dirs := map[string]map[string]bool{} // module directory -> package directories
	modules := map[string]Module{}
	for _, p := range packages {
		root, m := goroot, Module{Path: Standard}
		switch {
		case p.Standard:
			p.Dir = goroot
		case p.Module == nil:
			return nil, fmt.Errorf("collect licences: package %s belongs to no module", p.ImportPath)
		case p.Module.Replace != nil:
			root, m = p.Module.Replace.Dir, Module{Path: p.Module.Replace.Path, Version: p.Module.Replace.Version}
		default:
			root, m = p.Module.Dir, Module{Path: p.Module.Path, Version: p.Module.Version}
		}
		if dirs[root] == nil {
			dirs[root], modules[root] = map[string]bool{}, m
		}
		dirs[root][p.Dir] = true
	}
	var all []Module
	for root, m := range modules {
		if err := m.read(root, dirs[root]); err != nil {
			return nil, fmt.Errorf("collect licences of %s %s: %w", m.Path, m.Version, err)
		}
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b Module) int { return cmp.Compare(a.Path, b.Path) })
	return all, nil
}

// read takes the licence files from the packages' directories up to the
// module's: code that was copied in keeps its own beside it.
func (m *Module) read(root string, packages map[string]bool) error {
	seen := map[string]bool{}
	for dir := range packages {
		for !seen[dir] {
			seen[dir] = true
			if err := m.readDir(root, dir); err != nil {
				return err
			}
			if dir == root {
				break
			}
			if dir = filepath.Dir(dir); !strings.HasPrefix(dir+"/", root+"/") {
				return fmt.Errorf("package directory is outside of %s", root)
			}
		}
	}
	slices.SortFunc(m.texts, func(a, b text) int { return cmp.Compare(a.name, b.name) })
	return m.identify()
}

func (m *Module) readDir(root, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	name := regexp.MustCompile(`(?i)^(licen[cs]e|copying|copyright|notice|patents)([.-].*)?$`)
	for _, e := range entries {
		if !e.Type().IsRegular() || !name.MatchString(e.Name()) || strings.HasSuffix(e.Name(), ".go") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name())) //nolint:gosec // of a module that go.sum names
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		m.texts = append(m.texts, text{filepath.ToSlash(rel), data})
	}
	return nil
}

// identify names the licences and refuses texts that it does not know.
func (m *Module) identify() error {
	for _, t := range m.texts {
		base := strings.ToLower(t.name[strings.LastIndex(t.name, "/")+1:])
		if strings.HasPrefix(base, "notice") || strings.HasPrefix(base, "patents") || strings.HasPrefix(base, "copyright") {
			continue // carried along, but no licence by itself
		}
		if base == "license.docs" {
			continue // carried along; it is that of the documentation, which is not linked
		}
		found := licensecheck.Scan(t.data)
		if found.Percent < covered {
			return fmt.Errorf("%s is no licence text that is known (%.0f %% of it is); hint: read it before it is linked", t.name, found.Percent)
		}
		for _, match := range found.Match {
			if !allowed(match.ID) && !offered(match.ID) {
				return fmt.Errorf("%s is %s, which is not among the licences that may be linked; hint: use another module", t.name, match.ID)
			}
			m.Licenses = append(m.Licenses, match.ID)
		}
	}
	if len(m.Licenses) == 0 {
		return errors.New("no licence file")
	}
	slices.Sort(m.Licenses)
	m.Licenses = slices.Compact(m.Licenses)
	if slices.ContainsFunc(m.Licenses, offered) && (m.Version == "" || m.Path == compile.Module) {
		return fmt.Errorf("its licence %s asks where its source is, and it is no version that the module proxy has; hint: use a module as it was published", strings.Join(m.Licenses, ", "))
	}
	return nil
}

// allowed lists licences that ask no more than that their text is given along.
func allowed(id string) bool {
	return slices.Contains([]string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "Unlicense", "CC0-1.0", "Zlib"}, id)
}

// offered lists licences that also ask to say where the source of their files is.
// The modules are linked as they were published, so that path and version say it.
func offered(id string) bool { return id == "MPL-2.0" }

// source is where a published module and its source are found.
func (m Module) source() string { return "https://pkg.go.dev/" + m.Path + "@" + m.Version }

// Text returns the third-party notices of an image: every text once, after the
// modules that carry it.
func Text(modules []Module) []byte {
	type entry struct {
		carriers []string
		data     []byte
	}
	var order []*entry
	known := map[[sha256.Size]byte]*entry{}
	for _, m := range modules {
		for _, t := range m.texts {
			key := sha256.Sum256(t.data)
			if known[key] == nil {
				known[key] = &entry{data: t.data}
				order = append(order, known[key])
			}
			known[key].carriers = append(known[key].carriers, strings.TrimSpace(m.Path+" "+m.Version)+": "+t.name)
		}
	}
	var b bytes.Buffer
	b.WriteString("What this image is linked from, and the texts that come with it.\n")
	for _, m := range modules {
		if slices.ContainsFunc(m.Licenses, offered) {
			fmt.Fprintf(&b, "\nThe source of %s %s, unchanged, is at\n%s\n", m.Path, m.Version, m.source())
		}
	}
	for _, e := range order {
		fmt.Fprintf(&b, "\n%s\n%s\n%s\n", strings.Repeat("=", 78), strings.Join(e.carriers, "\n"), strings.Repeat("-", 78))
		b.Write(bytes.TrimRight(e.data, "\n"))
		b.WriteByte('\n')
	}
	return b.Bytes()
}
