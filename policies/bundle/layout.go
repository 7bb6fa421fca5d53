package bundle

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"strings"
)

// The bounds of a bundle.
const (
	maxFiles     = 2048
	maxFileBytes = 4 << 20
	maxBytes     = 32 << 20
	maxPathDepth = 6
)

// The files of a bundle that are not one of many.
const (
	manifestFile = ".manifest"
	configYAML   = "portcullis/config/data.yaml"
	configJSON   = "portcullis/config/data.json"
	checksDir    = "portcullis/checks"
	grantsDir    = "portcullis/grants"
	waiversDir   = "portcullis/waivers"
	grantsJSON   = grantsDir + "/data.json"
	waiversJSON  = waiversDir + "/data.json"
)

// testsDir holds what tests of a policy need: it is no part of the bundle.
const testsDir = "tests"

const layoutHint = "hint: see the layout in docs/POLICIES.md"

// readFiles reads the files in force of a directory, within the bounds.
func readFiles(fsys fs.FS) (map[string][]byte, error) {
	files, total := map[string][]byte{}, 0
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return fmt.Errorf("walk policy directory: %w", err)
		case d.IsDir() && name == testsDir:
			return fs.SkipDir
		case d.IsDir() && strings.HasPrefix(d.Name(), "..") && name != ".":
			// A ConfigMap volume keeps its files below such a directory and
			// links to them: only what is no link is read.
			return fmt.Errorf("policy directory holds %q; hint: copy the bundle out of the ConfigMap volume", name)
		case d.IsDir() && strings.Count(name, "/") >= maxPathDepth:
			return fmt.Errorf("policy directory %q is nested too deep", name)
		case d.IsDir():
			return nil
		case !d.Type().IsRegular():
			return fmt.Errorf("policy file %q is not a regular file; hint: links are not followed", name)
		case !isTest(name) && !inLayout(name):
			return fmt.Errorf("policy file %q has no place in a bundle; %s", name, layoutHint)
		case !wellNamed(name):
			return fmt.Errorf("policy file %q has a name that a bundle cannot hold; hint: use 1 to 90 letters, digits, dots, _ and -", name)
		case isTest(name):
			return nil
		}
		text, err := readFile(fsys, name)
		if err != nil {
			return err
		}
		files[name] = text
		if total += len(text); total > maxBytes || len(files) > maxFiles {
			return fmt.Errorf("policy directory holds more than %d bytes or %d files", maxBytes, maxFiles)
		}
		return nil
	})
	return files, err
}

func readFile(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open policy file: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read policy file %q: %w", name, err)
	}
	if len(text) > maxFileBytes {
		return nil, fmt.Errorf("policy file %q is larger than %d bytes", name, maxFileBytes)
	}
	return text, nil
}

// inLayout reports whether an author's bundle may hold this file.
func inLayout(name string) bool {
	switch dir := path.Dir(name); {
	case name == manifestFile || name == configYAML || name == configJSON:
		return true
	case dir == grantsDir || dir == waiversDir:
		return path.Ext(name) == ".yaml"
	default:
		return isCheck(name)
	}
}

// inTarball reports whether a built bundle may hold this file. Grants and waivers
// are there in one form only, the one that nodes read.
func inTarball(name string) bool {
	switch name {
	case manifestFile, configJSON, grantsJSON, waiversJSON:
		return true
	default:
		return isCheck(name) && wellNamed(name) && !isTest(name)
	}
}

var namePattern = regexp.MustCompile(`^[-A-Za-z0-9_.]{1,90}(/[-A-Za-z0-9_.]{1,90})*$`)

// wellNamed reports whether a file, and so a check, may be called that: errors
// repeat the name, and the header of an archive has to hold it.
func wellNamed(name string) bool { return namePattern.MatchString(name) }

// isTest reports whether the file is a Rego test where tests are run. Elsewhere it
// would never run, and its author would take it for one that passes.
func isTest(name string) bool {
	return strings.HasSuffix(name, "_test.rego") && path.Dir(path.Dir(name)) == checksDir
}

// isCheck reports whether the file is portcullis/checks/<name>/<name>.rego.
func isCheck(name string) bool {
	dir := path.Dir(name)
	return isRego(name) && path.Dir(dir) == checksDir && path.Base(name) == path.Base(dir)+".rego"
}

func isRego(name string) bool { return path.Ext(name) == ".rego" }
