package docs_test

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

const (
	root   = "../.."
	module = "github.com/portcullis-csi/portcullis"
)

var update = flag.Bool("update", false, "rewrite the generated tables of the documents")

// goFile is one Go file of the main module.
type goFile struct {
	name   string // relative to the root, with slashes
	dir    string
	test   bool // a test, or code that only tests import
	lines  int
	code   int // lines that are neither empty nor a comment
	syntax *ast.File
	fset   *token.FileSet
}

// position names a place in the file for a failure text.
func (f goFile) line(p token.Pos) int { return f.fset.Position(p).Line }

// read returns a file of the repository as text.
func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// files lists every file that a clone has and a build did not make, relative
// to the root.
func files(t *testing.T) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		if d.IsDir() && (rel == ".git" || rel == "bin" || rel == ".tools") {
			return filepath.SkipDir
		}
		if d.Type().IsRegular() {
			names = append(names, filepath.ToSlash(rel))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(names) < 20 {
		t.Fatalf("found %d files below the root of the repository, want the whole tree", len(names))
	}
	return names
}

// goFiles parses every Go file of the main module: those of modules of their
// own, and testdata, are not ours to judge.
func goFiles(t *testing.T) []goFile {
	t.Helper()
	var parsed []goFile
	fset := token.NewFileSet()
	for _, name := range files(t) {
		if !strings.HasSuffix(name, ".go") || strings.Contains("/"+name, "/testdata/") || inOtherModule(name) {
			continue
		}
		syntax, err := parser.ParseFile(fset, filepath.Join(root, name), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		dir := path.Dir(name)
		parsed = append(parsed, goFile{
			name: name, dir: dir, syntax: syntax, fset: fset,
			lines: fset.File(syntax.Pos()).LineCount() - 1, // the line after the last newline is none
			code:  codeLines(read(t, name)),
			test:  strings.HasSuffix(name, "_test.go") || strings.HasSuffix(dir, "test") || strings.HasPrefix(dir, "test/"),
		})
	}
	if len(parsed) == 0 {
		t.Fatal("found no Go file below the root of the repository")
	}
	return parsed
}

// inOtherModule reports whether a go.mod between the root and the file makes
// it part of another module.
func inOtherModule(name string) bool {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if _, err := os.Stat(filepath.Join(root, dir, "go.mod")); err == nil {
			return true
		}
	}
	return false
}

// block returns the text between <!-- name:begin --> and <!-- name:end -->.
func block(t *testing.T, text, name string) string {
	t.Helper()
	_, rest, found := strings.Cut(text, "<!-- "+name+":begin -->\n")
	inner, _, closed := strings.Cut(rest, "<!-- "+name+":end -->")
	if !found || !closed {
		t.Fatalf("no block %q with begin and end", name)
	}
	return inner
}

// checkBlock compares a generated block of a document with what it should be,
// or rewrites it with -update.
func checkBlock(t *testing.T, document, name, want string) {
	t.Helper()
	text := read(t, document)
	got := block(t, text, name)
	if got == want {
		return
	}
	if !*update {
		t.Fatalf("%s, block %q is not current; go test ./test/docs -update rewrites it\nhave:\n%s\nwant:\n%s", document, name, got, want)
	}
	begin := "<!-- " + name + ":begin -->\n"
	text = strings.Replace(text, begin+got, begin+want, 1)
	if err := os.WriteFile(filepath.Join(root, document), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func codeLines(text string) (n int) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "//") {
			n++
		}
	}
	return n
}
