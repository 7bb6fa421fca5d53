package policies

import (
	"context"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Problem is one reason for which a bundle would be refused, with the place where
// its author can mend it. Row and Column count from 1; zero is unknown.
type Problem struct {
	File        string
	Row, Column int
	Text        string
	Remedy      string
}

// Examination is what the tools of authors look at. None of it is in force.
type Examination struct {
	// Problems are all that Compile would refuse, not only the first.
	Problems []Problem
	// Parsed are the modules of the bundle by their path, as they are written.
	Parsed map[string]*ast.Module
	// Resolved are the same with every import and name made absolute, before
	// the compiler rewrites them; empty where they do not compile so far.
	Resolved map[string]*ast.Module
	// Data is the document that rules read, nil where it is refused.
	Data map[string]any
}

// Examine does what Compile does and goes on after a refusal, so that an author
// learns of everything at once.
func Examine(b Bundle, o Options) Examination {
	x := Examination{Parsed: map[string]*ast.Module{}, Resolved: map[string]*ast.Module{}}
	if err := checkManifest(b, o.now()); err != nil {
		x.add(located([]*BundleError{err}, b.Places))
	}
	doc, err := readDocument(b, o.now())
	x.add(err)
	if err == nil {
		x.Data, err = doc.object()
		x.add(err)
	}
	parsed := x.parse(b.Modules)
	x.add(located(checkRequired(x.Parsed, doc.Config.RequiredChecks), b.Places))
	if parsed {
		x.add(x.compile())
	}
	return x
}

// parse reports whether every module could be parsed.
func (x *Examination) parse(files map[string]string) bool {
	all := true
	for _, path := range slices.Sorted(maps.Keys(files)) {
		m, err := parseModule(path, files[path])
		x.addAt(path, err)
		if err != nil {
			all = false
			continue
		}
		x.Parsed[path] = m
		x.addAt(path, checkModule(path, m))
		all = all && checkNesting(path, m) == nil // else compiling might not end
	}
	return all
}

// compile type-checks the modules beside the library. The compiler stops at the
// stage that fails first, so after a failure each module is tried alone: a mistake
// in one would hide those in the others.
func (x *Examination) compile() error {
	c, err := x.compileSome(x.Parsed)
	if err != nil {
		return err
	}
	if !c.Failed() {
		compiled := map[string]*ast.Module{}
		for _, path := range slices.Sorted(maps.Keys(x.Parsed)) {
			compiled[path] = c.Modules[inBundle+path]
			for _, err := range referenceErrors(path, compiled[path]) {
				x.add(err)
			}
		}
		for _, err := range absenceErrors(compiled) {
			x.add(err)
		}
		return nil
	}
	told := x.addOwn(c.Errors)
	for _, path := range slices.Sorted(maps.Keys(x.Parsed)) {
		if told[path] || len(x.Parsed) == 1 {
			continue
		}
		alone, err := x.compileSome(map[string]*ast.Module{path: x.Parsed[path]})
		if err != nil {
			return err
		}
		told[path] = len(x.addOwn(alone.Errors)) > 0
	}
	if len(told) == 0 {
		x.add(c.Errors)
	}
	return nil
}

// inBundle keeps paths of the bundle apart from those of the library.
const inBundle = "bundle/"

// addOwn keeps the errors that are in files of the bundle and returns these: of
// what the library makes of them, an author can mend nothing.
func (x *Examination) addOwn(errs ast.Errors) map[string]bool {
	told := map[string]bool{}
	for _, e := range errs {
		// A module alone lacks the functions of the others.
		foreign := strings.Contains(e.Message, "undefined function data.portcullis.checks.")
		if e.Location != nil && x.Parsed[e.Location.File] != nil && !foreign {
			told[e.Location.File] = true
			x.Problems = append(x.Problems, regoProblem("", e))
		}
	}
	return told
}

// compileSome compiles some modules of the bundle, and keeps what they are after
// their names are resolved.
func (x *Examination) compileSome(some map[string]*ast.Module) (*ast.Compiler, error) {
	own, err := libraryModules()
	if err != nil {
		return nil, err
	}
	modules, err := parseModules(own, false)
	if err != nil {
		return nil, err
	}
	for path, m := range some {
		modules[inBundle+path] = m.Copy()
	}
	c, err := newCompiler(false)
	if err != nil {
		return nil, err
	}
	c.SetErrorLimit(maxProblems)
	c.WithStageAfterID(ast.StageResolveRefs, ast.CompilerStageDefinition{
		Name: "KeepResolved", MetricName: "keep_resolved",
		Stage: func(c *ast.Compiler) *ast.Error {
			for path := range some {
				x.Resolved[path] = c.Modules[inBundle+path].Copy()
			}
			return nil
		},
	})
	c.Compile(modules)
	return c, nil
}

// maxProblems keeps a hopeless bundle from filling the terminal.
const maxProblems = 100

func (x *Examination) add(err error) { x.addAt("", err) }

// addAt keeps an error as problems, at file where it does not say itself.
func (x *Examination) addAt(file string, err error) {
	if err == nil {
		return
	}
	var list ast.Errors
	if errors.As(err, &list) {
		for _, e := range list {
			x.Problems = append(x.Problems, regoProblem(file, e))
		}
		return
	}
	if placed, ok := errors.AsType[FileErrors](err); ok {
		for _, e := range placed {
			x.Problems = append(x.Problems, placedProblem(e))
		}
		return
	}
	p := Problem{File: file, Text: err.Error()}
	var refused *BundleError
	if errors.As(err, &refused) {
		p.Text, p.Remedy = refused.Part+": "+refused.Problem, refused.Remedy
		if m := modulePart().FindStringSubmatch(refused.Part); m != nil {
			p.File, p.Text = m[1], refused.Problem
			p.Row, _ = strconv.Atoi(m[2])
		}
	}
	x.Problems = append(x.Problems, p)
}

// placedProblem is a mistake in what is no Rego.
func placedProblem(e *FileError) Problem {
	text := e.Problem
	if e.Path != "" {
		text = e.Path + ": " + text
	}
	return Problem{File: e.Place.File, Row: e.Place.Line, Column: e.Place.Column, Text: text, Remedy: e.Hint}
}

// modulePart matches the parts of a bundle that are files, with or without a line.
func modulePart() *regexp.Regexp { return regexp.MustCompile(`^(portcullis/.+\.rego)(?::(\d+))?$`) }

func regoProblem(file string, e *ast.Error) Problem {
	p := Problem{File: file, Text: e.Message, Remedy: "correct the Rego; fields of input are listed in docs/POLICIES.md"}
	if e.Location != nil {
		p.File, p.Row, p.Column = e.Location.File, e.Location.Row, e.Location.Col
	}
	if e.Details != nil {
		// The other lines show the text again, with a mark below it.
		for _, line := range e.Details.Lines() {
			if line = strings.TrimSpace(line); strings.HasPrefix(line, "want") || strings.HasPrefix(line, "have") {
				p.Text += "; " + line
			}
		}
	}
	return p
}

// TestBench is what Rego tests run in, before it is compiled.
type TestBench struct {
	Compiler *ast.Compiler          // knows print, trace and cases of tests
	Modules  map[string]*ast.Module // library, checks and tests, by path
	Data     map[string]any         // what rules read unless a test replaces it
}

// NewTestBench parses the modules of a bundle and tests of them. Tests may print and
// replace documents, so nothing of it decides about anything. The data is that of a
// bundle without any: a test that relied on today's settings would fail when they
// change, and one that did not say which it relies on could not be read.
func NewTestBench(b Bundle, tests map[string]string) (TestBench, error) {
	doc, err := readDocument(Bundle{}, time.Unix(0, 0))
	if err != nil {
		return TestBench{}, err
	}
	data, err := doc.object()
	if err != nil {
		return TestBench{}, err
	}
	files, err := libraryModules()
	if err != nil {
		return TestBench{}, err
	}
	for _, more := range []map[string]string{b.Modules, tests} {
		for path, text := range more {
			if _, twice := files[path]; twice {
				return TestBench{}, &BundleError{path, "is a file of the library or of the bundle", "give the test a path of its own"}
			}
			files[path] = text
		}
	}
	modules, err := parseModules(files, false)
	if err != nil {
		return TestBench{}, err
	}
	c, err := newCompiler(true)
	return TestBench{Compiler: c, Modules: modules, Data: data}, err
}

// WithoutRuleIndex returns an engine that evaluates without OPA's rule index,
// which must not change a decision: tests of policies compare the two.
func (e *Engine) WithoutRuleIndex() *Engine { return e.with(rego.EvalRuleIndexing(false)) }

// WithTracer returns an engine whose evaluations a tracer follows: for coverage
// and profiles. It is slower, and decides the same.
func (e *Engine) WithTracer(t topdown.QueryTracer) *Engine { return e.with(rego.EvalQueryTracer(t)) }

func (e *Engine) with(o rego.EvalOption) *Engine {
	c := *e
	c.options = append(slices.Clone(e.options), o)
	return &c
}

// CompileLibrary makes an engine of the library alone with the data of a bundle:
// what a decision costs before any check, for comparison.
func CompileLibrary(ctx context.Context, b Bundle, o Options) (*Engine, error) {
	doc, err := readDocument(b, o.now())
	if err != nil {
		return nil, err
	}
	doc.Config.RequiredChecks = []string{}
	compiler, err := compileModules(Bundle{}, nil)
	if err != nil {
		return nil, err
	}
	query, store, err := prepare(ctx, compiler, doc)
	if err != nil {
		return nil, err
	}
	library, err := LibraryDigest()
	if o.Budget <= 0 {
		o.Budget = DefaultBudget
	}
	return &Engine{query: query, store: store, library: library, digest: b.Digest, budget: o.Budget}, err
}

func (o Options) now() time.Time {
	if o.Clock == nil {
		return time.Now()
	}
	return o.Clock()
}
