package docs_test

import (
	"go/ast"
	"go/build/constraint"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The size budget of CONTRIBUTING.md.
const (
	maxFileLines       = 400
	medianFileLines    = 120
	maxFunctionLines   = 70
	p95FunctionLines   = 45
	medianFunction     = 10
	maxParameters      = 4
	minTestRatio       = 1.0
	minTestRatioInside = 1.5 // hardening and policies: what the walls stand on
)

func TestFilesKeepTheirBudget(t *testing.T) {
	var lengths []int
	for _, f := range goFiles(t) {
		if f.test {
			continue
		}
		lengths = append(lengths, f.lines)
		if f.lines > maxFileLines {
			t.Errorf("%s has %d lines, want at most %d", f.name, f.lines, maxFileLines)
		}
	}
	if m := percentile(lengths, 50); m > medianFileLines {
		t.Errorf("the median file has %d lines, want at most %d", m, medianFileLines)
	}
}

func TestFunctionsKeepTheirBudget(t *testing.T) {
	var lengths []int
	for _, f := range goFiles(t) {
		if f.test {
			continue
		}
		for _, d := range f.syntax.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			lines := f.line(fn.End()) - f.line(fn.Pos()) + 1
			lengths = append(lengths, lines)
			if lines > maxFunctionLines {
				t.Errorf("%s:%d: %s has %d lines, want at most %d", f.name, f.line(fn.Pos()), fn.Name, lines, maxFunctionLines)
			}
			if n := fn.Type.Params.NumFields(); n > maxParameters {
				t.Errorf("%s:%d: %s has %d parameters, want at most %d and then a Config", f.name, f.line(fn.Pos()), fn.Name, n, maxParameters)
			}
		}
	}
	if m := percentile(lengths, 50); m > medianFunction {
		t.Errorf("the median function has %d lines, want at most %d", m, medianFunction)
	}
	if p := percentile(lengths, 95); p > p95FunctionLines {
		t.Errorf("the 95th percentile of functions has %d lines, want at most %d", p, p95FunctionLines)
	}
}

func TestTestsOutweighTheCode(t *testing.T) {
	type weight struct{ code, test int }
	weights := map[string]weight{}
	var all weight
	for _, f := range goFiles(t) {
		top, _, _ := strings.Cut(f.dir, "/")
		w := weights[top]
		if f.test {
			w.test += f.code
		} else {
			w.code += f.code
		}
		weights[top] = w
	}
	for _, name := range files(t) {
		top, _, _ := strings.Cut(name, "/")
		w := weights[top]
		switch lines := strings.Count(read(t, name), "\n"); {
		case strings.HasPrefix(name, "deploy/"): // copies
			continue
		case strings.HasSuffix(name, ".txtar"), // stories told to the built binaries
			strings.HasSuffix(name, ".rego") && (strings.HasSuffix(name, "_test.rego") || strings.Contains(name, "/testdata/")),
			strings.Contains(name, "/rego/starter/tests/"):
			w.test += lines
		case strings.HasSuffix(name, ".rego"):
			w.code += lines
		default:
			continue
		}
		weights[top] = w
	}
	for _, top := range slices.Sorted(maps.Keys(weights)) {
		want := minTestRatio
		if top == "hardening" || top == "policies" {
			want = minTestRatioInside
		}
		w := weights[top]
		all.code += w.code
		all.test += w.test
		t.Logf("%-10s %5d lines of code, %5d of tests", top, w.code, w.test)
		// The programs are wiring and the demo, whose every step is a check of
		// its own; they count in the whole.
		if top != "cmd" && float64(w.test) < want*float64(w.code) {
			t.Errorf("%s has %d lines of tests for %d of code, want at least %.1f times as many", top, w.test, w.code, want)
		}
	}
	if float64(all.test) < minTestRatio*float64(all.code) {
		t.Errorf("the project has %d lines of tests for %d of code, want at least %.1f times as many", all.test, all.code, minTestRatio)
	}
}

func TestEveryPackageSaysWhatItPromises(t *testing.T) {
	documented := map[string]bool{}
	for _, f := range goFiles(t) {
		if strings.HasSuffix(f.name, "_test.go") {
			continue
		}
		// The one file that a newcomer to a command opens is main.go.
		place := strings.HasSuffix(f.name, "/doc.go") || f.syntax.Name.Name == "main" && strings.HasSuffix(f.name, "/main.go")
		documented[f.dir] = documented[f.dir] || place && f.syntax.Doc.Text() != ""
		if f.syntax.Doc != nil && !place {
			t.Errorf("%s has a package comment; it belongs in doc.go, where newcomers look", f.name)
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(documented)) {
		if !documented[dir] {
			t.Errorf("%s has no doc.go with a package comment", dir)
		}
	}
}

func TestBuildTagsAreKnownAndPaired(t *testing.T) {
	known := []string{"linux", "insecure", "race", "attack", "integration", "faultpoints", "e2e", "nightly"}
	seen := map[string]map[string]bool{} // directory -> expressions
	for _, f := range goFiles(t) {
		for _, group := range f.syntax.Comments {
			for _, c := range group.List {
				if !constraint.IsGoBuild(c.Text) || c.Pos() > f.syntax.Package {
					continue
				}
				expr, err := constraint.Parse(c.Text)
				if err != nil {
					t.Errorf("%s: %v", f.name, err)
					continue
				}
				expr.Eval(func(tag string) bool {
					if !slices.Contains(known, tag) {
						t.Errorf("%s: build tag %q, want one of %q: a misspelt tag drops the file without a word", f.name, tag, known)
					}
					return true
				})
				if seen[f.dir] == nil {
					seen[f.dir] = map[string]bool{}
				}
				if !f.test {
					seen[f.dir][expr.String()] = true
				}
			}
		}
	}
	for dir, expressions := range seen {
		if expressions["insecure"] && !expressions["!insecure"] {
			t.Errorf("%s has files for builds with the tag insecure and none for release builds", dir)
		}
	}
}

func TestSkipsGiveAReason(t *testing.T) {
	for _, f := range goFiles(t) {
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if name := sel.Sel.Name; name == "SkipNow" || (name == "Skip" || name == "Skipf") && len(call.Args) == 0 {
				t.Errorf("%s:%d: %s without a reason", f.name, f.line(call.Pos()), name)
			}
			return true
		})
	}
}

func TestNoFileNamesTheMachineItWasWrittenOn(t *testing.T) {
	// In pieces, so that this file does not find itself.
	patterns := regexp.MustCompile(strings.Join([]string{
		"/wo" + "rk/", "/fa" + "rm/", "/ro" + "ot/", "/ho" + "me/[a-z]", `/tm` + `p/[a-z]+[-/]\d`, "proxy." + "golang",
	}, "|"))
	for _, name := range files(t) {
		for i, line := range strings.Split(read(t, name), "\n") {
			if m := patterns.FindString(line); m != "" {
				t.Errorf("%s:%d: holds %q, a path or host of one machine", name, i+1, m)
			}
		}
	}
}

// percentile returns the smallest value that p percent of the values do not exceed.
func percentile(values []int, p int) int {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)*p+99)/100-1]
}
