package policies_test

import (
	"context"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"

	"github.com/portcullis-csi/portcullis/policies"
	starterpolicy "github.com/portcullis-csi/portcullis/policies/rego"
)

// TestRego runs every Rego test as a subtest, and fails where a rule of the
// library or of the starter policy is not evaluated by any of them.
func TestRego(t *testing.T) {
	modules, coverage := parseRego(t, "rego"), cover.New()
	results, err := runRego(t.Context(), t, modules, func(r *tester.Runner) { r.SetCoverageQueryTracer(coverage) })
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for r := range results {
		ran++
		t.Run(strings.TrimPrefix(r.Package, "data.portcullis.")+"/"+r.Name, func(t *testing.T) {
			if !r.Pass() {
				t.Errorf("%s: error %v, failed at %v\n%s", r.Location, r.Error, r.FailedAt, r.Output)
			}
		})
	}
	if ran < 150 {
		t.Errorf("%d Rego tests ran, want at least 150", ran)
	}
	for name, report := range coverage.Report(modules).Files {
		if strings.HasSuffix(name, "_test.rego") {
			continue
		}
		for _, gap := range report.NotCovered {
			t.Errorf("%s:%d-%d: no test evaluates these lines", name, gap.Start.Row, gap.End.Row)
		}
	}
}

// runRego runs the tests among the modules, over a bundle without data. The error
// is one of compiling them.
func runRego(ctx context.Context, t *testing.T, modules map[string]*ast.Module, options ...func(*tester.Runner)) (<-chan *tester.Result, error) {
	t.Helper()
	compiler, err := policies.NewTestCompiler()
	if err != nil {
		t.Fatal(err)
	}
	store := inmem.NewFromObject(map[string]any{"portcullis": map[string]any{
		"config":  map[string]any{"checks": map[string]any{}},
		"grants":  map[string]any{"by_subject": map[string]any{}},
		"waivers": map[string]any{"by_finding": map[string]any{}},
	}})
	txn, err := store.NewTransaction(t.Context(), storage.WriteParams)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Abort(context.WithoutCancel(t.Context()), txn) })
	runner := tester.NewRunner().SetCompiler(compiler).SetStore(store).SetModules(modules).
		CapturePrintOutput(true).RaiseBuiltinErrors(true).SetTimeout(20 * time.Second)
	for _, option := range options {
		option(runner)
	}
	return runner.RunTests(ctx, txn)
}

func parseRego(t *testing.T, dir string) map[string]*ast.Module {
	t.Helper()
	modules := map[string]*ast.Module{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".rego") {
			return err
		}
		text, err := os.ReadFile(dir + "/" + name)
		if err != nil {
			return err
		}
		modules[name], err = ast.ParseModuleWithOpts(name, string(text), ast.ParserOptions{
			ProcessAnnotation: true, RegoVersion: ast.RegoV1,
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return modules
}

func starter(t testing.TB) fs.FS {
	t.Helper()
	files, err := starterpolicy.Starter()
	if err != nil {
		t.Fatal(err)
	}
	return files
}
