package docs_test

import (
	"cmp"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// maxDirect is the budget of modules that the product itself imports.
const maxDirect = 35

// versions returns what a go.mod says of the language and of the modules that
// its own code imports.
func versions(t *testing.T, name string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^(?:require |\t)?(go|[a-z][\w.]*\.[a-z]+/\S+) (v?\d\S*)$`).FindAllStringSubmatch(read(t, name), -1) {
		found[m[1]] = m[2]
	}
	return found
}

// A test against another version of a protocol than the product speaks proves
// something about another product.
func TestOtherModulesAgreeWithTheProduct(t *testing.T) {
	product := versions(t, "go.mod")
	shared := 0
	for _, name := range files(t) {
		if path.Base(name) != "go.mod" || name == "go.mod" {
			continue
		}
		for module, version := range versions(t, name) {
			want, ok := product[module]
			if !ok {
				continue
			}
			shared++
			if version != want {
				t.Errorf("%s wants %s %s, the product has %s", name, module, version, want)
			}
		}
	}
	if shared < 5 {
		t.Errorf("found %d versions that the product has too, want at least 5: the search is broken", shared)
	}
}

// required returns the modules of go.mod, longest path first, so that the
// first prefix of an import path is its module.
func required(t *testing.T) []string {
	t.Helper()
	var modules []string
	for _, m := range regexp.MustCompile(`(?m)^(?:require |\t)(\S+) v\S+`).FindAllStringSubmatch(read(t, "go.mod"), -1) {
		modules = append(modules, m[1])
	}
	slices.SortFunc(modules, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	return modules
}

// imported returns the modules that Go files of the main module import, and
// whether more than tests do.
func imported(t *testing.T) map[string]bool {
	t.Helper()
	modules := required(t)
	direct := map[string]bool{}
	for _, f := range goFiles(t) {
		for _, spec := range f.syntax.Imports {
			pkg, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(modules, func(m string) bool { return pkg == m || strings.HasPrefix(pkg, m+"/") })
			if i >= 0 {
				direct[modules[i]] = direct[modules[i]] || !f.test
			}
		}
	}
	return direct
}

func TestEveryDirectDependencyHasAReason(t *testing.T) {
	direct := imported(t)
	rows := regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([^|]+) \\|$").FindAllStringSubmatch(
		block(t, read(t, "docs/ARCHITECTURE.md"), "dependencies"), -1)
	reasons := map[string]string{}
	for _, row := range rows {
		reasons[row[1]] = row[2]
	}
	for _, m := range slices.Sorted(maps.Keys(direct)) {
		reason, ok := reasons[m]
		if !ok {
			t.Errorf("docs/ARCHITECTURE.md has no reason for the direct dependency %s", m)
			continue
		}
		if testsOnly := strings.HasPrefix(reason, "tests: "); testsOnly == direct[m] {
			t.Errorf("the reason for %s is %q, want it to begin with %q exactly if only tests import it", m, reason, "tests: ")
		}
	}
	for _, m := range slices.Sorted(maps.Keys(reasons)) {
		if _, ok := direct[m]; !ok {
			t.Errorf("docs/ARCHITECTURE.md gives a reason for %s, which nothing imports", m)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^(?:require |\t)(\S+) v\S+$`).FindAllStringSubmatch(read(t, "go.mod"), -1) {
		if _, ok := direct[m[1]]; !ok {
			t.Errorf("go.mod requires %s directly, which nothing imports; go mod tidy mends it", m[1])
		}
	}
	linked := 0
	for _, product := range direct {
		if product {
			linked++
		}
	}
	if linked > maxDirect {
		t.Errorf("the product imports %d modules, want at most %d", linked, maxDirect)
	}
}

func TestOtherToolsStayOutOfTheProductsModule(t *testing.T) {
	// Linking one of these by accident would double what has to be reviewed.
	giants := []string{"github.com/golangci/golangci-lint", "github.com/styrainc/regal", "k8s.io/kubernetes", "go.etcd.io/etcd", "github.com/containerd", "helm.sh/helm", "github.com/stretchr/testify",
		"github.com/kubernetes-csi/csi-test", "github.com/onsi"}
	direct := imported(t)
	for _, giant := range giants {
		for m := range direct {
			if m == giant || strings.HasPrefix(m, giant+"/") {
				t.Errorf("the main module imports %s; test-only giants and tools have modules of their own", m)
			}
		}
	}
}
