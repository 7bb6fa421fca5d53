//go:build attack

package attack_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// faultpointsEnv is read by builds with the tag faultpoints, package hardening
// says how; faultpointTags make one.
const (
	faultpointsEnv = "PORTCULLIS_FAULTPOINTS"
	faultpointTags = "insecure,faultpoints"
)

// passing is one passing of a fault point: the n-th of its name.
type passing struct {
	name string
	n    int
}

func (p passing) String() string { return fmt.Sprintf("%s %d", p.name, p.n) }

// pointsInSource returns the names of all fault points of the programs, by
// the file that has them.
func pointsInSource(t testing.TB) map[string]string {
	t.Helper()
	points := map[string]string{}
	err := filepath.WalkDir("../..", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(node ast.Node) bool {
			call, ok := node.(*ast.CallExpr)
			if !ok || calleeOf(call) != "FaultPoint" {
				return true
			}
			literal, ok := call.Args[0].(*ast.BasicLit)
			if !ok || literal.Kind != token.STRING {
				t.Errorf("%s: a fault point has no literal name: it would be in release builds", name)
				return true
			}
			point, err := strconv.Unquote(literal.Value)
			if other := points[point]; err != nil || other != "" {
				t.Errorf("%s: fault point %q is in %s too", name, point, other)
			}
			points[point] = name
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return points
}

func calleeOf(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

// TestReleasesHaveNoFaultPoints looks for the variable and for the name of every
// point in the programs as they are released, and, to know that it would find
// them, in a build with the tag.
func TestReleasesHaveNoFaultPoints(t *testing.T) {
	words := []string{faultpointsEnv}
	for name := range pointsInSource(t) {
		words = append(words, name)
	}
	if len(words) < 50 {
		t.Fatalf("found %d fault points in the source, want at least 50", len(words))
	}
	for _, tags := range []string{"", "insecure"} {
		for _, name := range []string{"portcullis", "portcullis-node", "portcullis-provider-local"} {
			if found := wordsIn(t, program(t, name, tags), words); len(found) != 0 {
				t.Errorf("%s, built with the tags %q, holds %q", name, tags, found)
			}
		}
	}
	if found := wordsIn(t, program(t, "portcullis-node", faultpointTags), words); len(found) != len(words) {
		t.Errorf("a build with fault points holds %d of %d words: the search does not find them", len(found), len(words))
	}
}

func wordsIn(t *testing.T, file string, words []string) (found []string) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range words {
		if bytes.Contains(content, []byte(w)) {
			found = append(found, w)
		}
	}
	return found
}

// faultNode is a node whose plugins die where they are told to.
type faultNode struct{ *node }

func newFaultNode(t *testing.T, flags ...string) faultNode {
	t.Helper()
	n := newNode(t, flags...)
	n.write("faults/armed", "")
	n.tags, n.env = faultpointTags, []string{faultpointsEnv + "=" + n.path("faults")}
	return faultNode{n}
}

// arm makes the plugin die at this passing, counted from now on. The zero
// passing never comes.
func (n faultNode) arm(p passing) {
	n.t.Helper()
	// In this order, so that what passes in between is not counted for it.
	n.write("faults/armed", p.String())
	n.write("faults/passed", "")
}

// passed returns the passings since arm, in their order.
func (n faultNode) passed() (list []passing) {
	n.t.Helper()
	for line := range bytes.Lines(n.read("faults/passed")) {
		name := string(bytes.TrimSuffix(line, []byte("\n")))
		earlier := slices.DeleteFunc(slices.Clone(list), func(p passing) bool { return p.name != name })
		list = append(list, passing{name, len(earlier) + 1})
	}
	return list
}
