package policies

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/util"
)

// DefaultBudget is how long one evaluation may take. A policy needs about a
// millisecond; the rest is for busy machines.
const DefaultBudget = time.Second

const entrypoint = "data.portcullis.main.decision"

// Options are the circumstances of an engine. The zero value is usable.
type Options struct {
	// Budget bounds one evaluation; zero means DefaultBudget.
	Budget time.Duration
	// Clock is asked when a bundle is compiled, for the bounds on how far off
	// its ends may be; nil means time.Now. Decisions take the time from Input.
	Clock func() time.Time
}

// Compile makes an engine of a bundle, or returns an error: a *BundleError where
// the author can mend it, a FileErrors of them where the bundle knows the places. It does not check whether the bundle has expired:
// each decision does, by the time in its Input.
func Compile(ctx context.Context, b Bundle, o Options) (e *Engine, err error) {
	// A panic of the compiler would end the process, and again at its next start.
	defer func() {
		if r := recover(); r != nil {
			e, err = nil, &BundleError{"modules", fmt.Sprintf("the compiler panicked: %.200v", r), "report it, and publish the bundle without what is new in it"}
		}
	}()
	now := o.now()
	if o.Budget <= 0 {
		o.Budget = DefaultBudget
	}
	if err := checkManifest(b, now); err != nil {
		return nil, located([]*BundleError{err}, b.Places)
	}
	doc, err := readDocument(b, now)
	if err != nil {
		return nil, err
	}
	compiler, err := compileModules(b, doc.Config.RequiredChecks)
	if err != nil {
		return nil, err
	}
	query, store, err := prepare(ctx, compiler, doc)
	if err != nil {
		return nil, err
	}
	library, err := LibraryDigest()
	if err != nil {
		return nil, err
	}
	return &Engine{
		query: query, store: store, library: library, manifest: b.Manifest, digest: b.Digest, signed: b.Signed,
		breakGlass: b.BreakGlass,
		massRevoke: doc.Config.MassRevoke && !b.BreakGlass, monitorEndNS: doc.Config.Monitor.UntilNS, budget: o.Budget,
	}, nil
}

// compileModules type-checks the library and the modules of a bundle together.
func compileModules(b Bundle, required []string) (*ast.Compiler, error) {
	own, err := libraryModules()
	if err != nil {
		return nil, err
	}
	modules, err := parseModules(own, false)
	if err != nil {
		return nil, err
	}
	foreign, err := parseModules(b.Modules, true)
	if err != nil {
		return nil, err
	}
	if err := located(checkRequired(foreign, required), b.Places); err != nil {
		return nil, err
	}
	for path, m := range foreign {
		modules["bundle/"+path] = m
	}
	c, err := newCompiler(false)
	if err != nil {
		return nil, err
	}
	if c.Compile(modules); c.Failed() {
		return nil, &BundleError{"modules", clipProblem(c.Errors.Error()), "correct the Rego; fields of input are listed in docs/POLICIES.md"}
	}
	compiled := map[string]*ast.Module{}
	for path := range foreign {
		compiled[path] = c.Modules["bundle/"+path]
		if err := checkReferences(path, compiled[path]); err != nil {
			return nil, err
		}
	}
	if errs := absenceErrors(compiled); len(errs) > 0 {
		return nil, errs[0]
	}
	return c, nil
}

// clipProblem keeps an error fit to be read and logged: types in it may have a size
// that grows with a power of what was written.
func clipProblem(text string) string {
	const most = 4 << 10
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "..."
}

// newCompiler returns a compiler whose strictness is a control: a misspelt
// field, an unused variable or an unknown built-in stops the load.
func newCompiler(forTests bool) (*ast.Compiler, error) {
	var schema any
	if err := util.UnmarshalJSON(inputSchema, &schema); err != nil {
		return nil, fmt.Errorf("read input schema: %w", err)
	}
	schemas := ast.NewSchemaSet()
	schemas.Put(ast.Ref{ast.SchemaRootDocument, ast.StringTerm("input")}, schema)
	return ast.NewCompiler().WithCapabilities(capabilities(forTests)).WithStrict(true).WithSchemas(schemas).
		WithUseTypeCheckAnnotations(true).WithDefaultRegoVersion(ast.RegoV1).WithEnablePrintStatements(forTests), nil
}

// checkRequired refuses a bundle that lacks a required check. PR-002 would deny
// every request; refusing the bundle keeps the last good one active.
func checkRequired(modules map[string]*ast.Module, required []string) []*BundleError {
	present := map[string]bool{}
	for _, m := range modules {
		name, _ := checkName(m.Package.Path)
		present[name] = true
	}
	var errs []*BundleError
	for i, name := range required {
		if !present[name] {
			errs = append(errs, &BundleError{fmt.Sprintf("config required_checks[%d]", i), fmt.Sprintf("check %q is not in the bundle", name), "restore the check, or take it off the list"})
		}
	}
	return errs
}

// prepare puts the data into a store that hands out parsed values.
func prepare(ctx context.Context, c *ast.Compiler, doc document) (rego.PreparedEvalQuery, storage.Store, error) {
	data, err := doc.value()
	if err != nil {
		return rego.PreparedEvalQuery{}, nil, err
	}
	store := inmem.NewFromASTObject(data)
	query, err := rego.New(rego.Query(entrypoint), rego.Compiler(c), rego.Store(store),
		rego.StrictBuiltinErrors(true), rego.StoreReadAST(true)).PrepareForEval(ctx)
	if err != nil {
		return rego.PreparedEvalQuery{}, nil, fmt.Errorf("prepare policy: %w", err)
	}
	return query, store, nil
}
