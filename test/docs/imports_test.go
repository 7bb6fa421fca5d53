package docs_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// wall is one rule of depguard: what one package may import.
type wall struct {
	Mode  string `yaml:"list-mode"`
	Files []string
	Allow []string
	Deny  []struct{ Pkg, Desc string }
}

// walls reads the import rules of the linter, which are the ones that count.
func walls(t *testing.T) map[string]wall {
	t.Helper()
	var config struct {
		Linters struct {
			Enable   []string
			Settings struct {
				Depguard struct{ Rules map[string]wall }
			}
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, ".golangci.yml")), &config); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(config.Linters.Enable, "depguard") {
		t.Fatal("depguard is not enabled: nothing holds the import table")
	}
	return config.Linters.Settings.Depguard.Rules
}

// covers reports whether the rule is the one for the packages in dir.
func (w wall) covers(dir string) bool {
	for _, glob := range w.Files {
		glob = strings.TrimPrefix(glob, "**/")
		if exact, ok := strings.CutSuffix(glob, "/*.go"); ok && exact == dir {
			return true
		}
		if below, ok := strings.CutSuffix(glob, "/**"); ok && (below == dir || strings.HasPrefix(dir, below+"/")) {
			return true
		}
	}
	return false
}

func TestEveryPackageHasOneImportRule(t *testing.T) {
	rules := walls(t)
	used := map[string]bool{"tests": true, "tests-sigstore": true, "tests-unsafe": true}
	for _, f := range goFiles(t) {
		if f.test {
			continue
		}
		var names []string
		for name, rule := range rules {
			if rule.covers(f.dir) && !strings.HasPrefix(name, "tests") {
				names = append(names, name)
				used[name] = true
			}
		}
		if len(names) != 1 {
			t.Errorf("%s is under the import rules %q, want exactly one: add the package to .golangci.yml", f.dir, names)
		}
	}
	for name := range rules {
		if !used[name] {
			t.Errorf("import rule %q covers no package", name)
		}
	}
}

func TestOnlyCommandsSeeEverything(t *testing.T) {
	for name, rule := range walls(t) {
		if !slices.Contains([]string{"cmd", "tests", "tests-sigstore", "tests-unsafe"}, name) && rule.Mode != "strict" {
			t.Errorf("import rule %q has list-mode %q, want strict: what is not listed is refused", name, rule.Mode)
		}
		for _, d := range rule.Deny {
			if d.Desc == "" {
				t.Errorf("import rule %q refuses %s without a reason", name, d.Pkg)
			}
		}
	}
}

func TestArchitectureShowsTheImportTable(t *testing.T) {
	rules := walls(t)
	var b strings.Builder
	b.WriteString("| package | imports of the project | imports of others |\n|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		rule := rules[name]
		if rule.Mode != "strict" {
			continue
		}
		var own, others []string
		for _, pkg := range rule.Allow {
			pkg = strings.TrimSuffix(pkg, "$")
			if inner, ok := strings.CutPrefix(pkg, module+"/"); ok {
				own = append(own, "`"+inner+"`")
			} else if pkg != "$gostd" {
				others = append(others, "`"+pkg+"`")
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, list(own), list(others))
	}
	b.WriteString("| `cmd/*` | everything | everything but `unsafe`, cgo and raw system calls |\n")
	checkBlock(t, "docs/ARCHITECTURE.md", "imports", b.String())
}

// list joins names, or says that there are none.
func list(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}
