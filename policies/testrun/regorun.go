package testrun

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/lineage"

	"github.com/portcullis-csi/portcullis/policies"
)

// rego runs the tests that are written in Rego.
func (s *session) rego(ctx context.Context, files map[string]string) error {
	if len(files) == 0 {
		return nil
	}
	bench, err := policies.NewTestBench(s.bundle, files)
	if err != nil {
		return err
	}
	if err := checkTests(bench, files); err != nil {
		return err
	}
	filter, some := s.filter(bench, files)
	if !some {
		return nil
	}
	store := inmem.NewFromObject(bench.Data)
	txn, err := store.NewTransaction(ctx, storage.WriteParams)
	if err != nil {
		return fmt.Errorf("open test data: %w", err)
	}
	defer store.Abort(ctx, txn)
	runner := tester.NewRunner().SetCompiler(bench.Compiler).SetStore(store).SetModules(bench.Modules).
		CapturePrintOutput(true).RaiseBuiltinErrors(true).SetTimeout(s.Timeout).SetCoverageQueryTracer(s.coverage).Filter(filter)
	results, err := runner.RunTests(ctx, txn)
	if err != nil {
		return fmt.Errorf("compile Rego tests: %w", err)
	}
	a := again{bench.Compiler, store, txn, s.Timeout}
	var ran []*tester.Result
	for r := range results {
		ran = append(ran, r)
	}
	for _, r := range ran {
		s.done(s.regoTest(ctx, a, r), len(ran))
	}
	return ctx.Err()
}

// regoTest turns a result of OPA into one of ours, and asks the rule index.
func (*session) regoTest(ctx context.Context, a again, r *tester.Result) Test {
	t := Test{
		Kind: KindRego, File: r.Location.File, Line: r.Location.Row, Duration: r.Duration, Output: tail(r.Output),
		Name: strings.TrimPrefix(r.Package, inChecks) + "." + r.Name,
	}
	switch {
	case r.Skip:
		t.Outcome = Skipped
		return t
	case r.Error != nil:
		t.fail("cannot be evaluated: " + r.Error.Error())
		return t
	case r.Fail:
		t.fail(failedCases(r))
	}
	indexed, err := a.evaluate(ctx, r)
	plain, err2 := a.evaluate(ctx, r, rego.EvalRuleIndexing(false))
	// A test that passed has a value: without one, nothing would be compared.
	if err := errors.Join(err, err2); err != nil || !reflect.DeepEqual(indexed, plain) || !r.Fail && plain == nil {
		t.fail(fmt.Sprintf("another result without OPA's rule index (%v): report it, and write the rule in another way", err))
	}
	if t.Outcome == Failed {
		trace := topdown.NewBufferTracer()
		_, _ = a.evaluate(ctx, r, rego.EvalQueryTracer(trace))
		t.Notes, t.Trace = explain(*trace, r.Location.File)
	}
	return t
}

// failedCases names the cases of test_x[name] that failed.
func failedCases(r *tester.Result) string {
	var names []string
	for _, name := range sortedKeys(r.SubResults) {
		if r.SubResults[name].Fail {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "is not true"
	}
	return "is not true for " + strings.Join(names, ", ")
}

// again evaluates a test once more, beside OPA's runner, which knows neither an
// evaluation without the rule index nor a trace for failures only.
type again struct {
	compiler *ast.Compiler
	store    storage.Store
	txn      storage.Transaction
	timeout  time.Duration
}

func (a again) evaluate(ctx context.Context, r *tester.Result, options ...rego.EvalOption) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	prepared, err := rego.New(rego.Store(a.store), rego.Transaction(a.txn), rego.Compiler(a.compiler),
		rego.Query(query(r)), rego.PrintHook(topdown.NewPrintHook(io.Discard))).PrepareForEval(ctx)
	if err != nil {
		return nil, err
	}
	results, err := prepared.Eval(ctx, append(options, rego.EvalTransaction(a.txn), rego.EvalSortSets(true))...)
	if err != nil || len(results) == 0 {
		return nil, err
	}
	return results[0].Expressions[0].Value, nil
}

// query names a test. Of two with one name OPA calls the second test_x#01, where #
// would begin a comment.
func query(r *tester.Result) string {
	if strings.Contains(r.Name, "#") {
		return fmt.Sprintf("%s[%q]", r.Package, r.Name)
	}
	return r.Package + "." + r.Name
}

// explain returns the notes of trace(), and the places in the test file where
// its evaluation failed.
func explain(trace []*topdown.Event, file string) (notes, fails []string) {
	for _, e := range lineage.Notes(trace) {
		if e.Op == topdown.NoteOp {
			notes = append(notes, e.Message)
		}
	}
	seen := map[string]bool{}
	for _, e := range trace {
		expr, ok := e.Node.(*ast.Expr)
		if !ok || e.Op != topdown.FailOp || expr.Location == nil || expr.Location.File == "" {
			continue
		}
		text := fmt.Sprintf("%s:%d: %s", expr.Location.File, expr.Location.Row, firstLine(string(expr.Location.Text)))
		if !seen[text] && (expr.Location.File == file || strings.HasPrefix(expr.Location.File, "portcullis/")) {
			seen[text] = true
			fails = append(fails, text)
		}
	}
	return last(notes, maxNotes), last(fails, maxNotes)
}

const (
	maxNotes  = 12
	maxOutput = 8 << 10
)

func last(list []string, n int) []string { return list[max(0, len(list)-n):] }

func tail(output []byte) string { return string(output[max(0, len(output)-maxOutput):]) }

func firstLine(s string) string {
	line, _, more := strings.Cut(s, "\n")
	if more {
		line += " ..."
	}
	return line
}
