package docs_test

import (
	"fmt"
	"go/ast"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestLinksInDocumentsResolve(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:\s]+)(?:#[^)]*)?\)`)
	code := regexp.MustCompile("(?s)```.*?```|`[^`\n]*`")
	checked := 0
	for _, name := range files(t) {
		if !strings.HasSuffix(name, ".md") {
			continue
		}
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(read(t, name), ""), -1) {
			checked++
			if _, err := os.Stat(filepath.Join(root, path.Dir(name), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", name, m[1], err)
			}
		}
	}
	if checked < 10 {
		t.Errorf("found %d links in the documents, want at least 10: the search is broken", checked)
	}
}

func TestCommandsInReadmeExist(t *testing.T) {
	for _, m := range regexp.MustCompile(`bin/(?:insecure/)?(portcullis[a-z-]*)`).FindAllStringSubmatch(read(t, "README.md"), -1) {
		if _, err := os.Stat(filepath.Join(root, "cmd", m[1])); err != nil {
			t.Errorf("README.md runs %s: %v", m[0], err)
		}
	}
}

// Every promise has a row with its control, and what a row names exists.
func TestPromiseTableNamesWhatExists(t *testing.T) {
	table := block(t, read(t, "SECURITY.md"), "promises")
	for i := 1; i <= 12; i++ {
		if !strings.Contains(table, fmt.Sprintf("\n| P%d |", i)) {
			t.Errorf("SECURITY.md has no row for promise P%d", i)
		}
	}
	tests := map[string]bool{}
	for _, f := range goFiles(t) {
		for _, d := range f.syntax.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && f.test && fn.Recv == nil {
				tests[fn.Name.Name] = true
			}
		}
	}
	for _, m := range regexp.MustCompile("`((?:Test|Fuzz|Benchmark|Example)[A-Z][A-Za-z0-9_]*)`").FindAllStringSubmatch(read(t, "SECURITY.md"), -1) {
		if !tests[m[1]] {
			t.Errorf("SECURITY.md names %s, which no test file has", m[1])
		}
	}
	for _, m := range regexp.MustCompile("`([a-z][a-z/_.-]*\\.(?:go|rego|yml|json))`").FindAllStringSubmatch(table, -1) {
		if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
			t.Errorf("SECURITY.md names the file %s: %v", m[1], err)
		}
	}
}

// What the instructions to install by hand read from the clone is there.
func TestFilesOfTheInstructionsExist(t *testing.T) {
	_, section, found := strings.Cut(read(t, "docs/OPERATIONS.md"), "\n## Installing by hand\n")
	section, _, _ = strings.Cut(section, "\n## ")
	if !found {
		t.Fatal("docs/OPERATIONS.md does not say how to install by hand")
	}
	paths := regexp.MustCompile(`(?:^|[\s=])((?:deploy|policies)/[a-z/.-]+)`).FindAllStringSubmatch(section, -1)
	for _, m := range append(paths, regexp.MustCompile(`bin/insecure/(portcullis[a-z-]*)`).FindAllStringSubmatch(section, -1)...) {
		name := m[1]
		if strings.HasPrefix(name, "portcullis") {
			name = "cmd/" + name
		}
		if _, err := os.Stat(filepath.Join(root, name)); err != nil {
			t.Errorf("docs/OPERATIONS.md uses %s: %v", m[0], err)
		}
	}
	if len(paths) < 4 {
		t.Errorf("found %d paths in the instructions, want at least 4: the search is broken", len(paths))
	}
}
