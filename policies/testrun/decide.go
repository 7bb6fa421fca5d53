package testrun

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
)

// fixtures decides what the YAML files ask.
func (s *session) fixtures(ctx context.Context, files map[string][]byte) error {
	fixtures, errs := sources{fixtures: files}.parse()
	if len(errs) > 0 {
		return errors.Join(errs[:min(len(errs), maxShown)]...)
	}
	if len(fixtures) == 0 {
		return nil
	}
	e, err := policies.Compile(ctx, s.bundle, s.options())
	if err != nil {
		return err
	}
	total := len(s.tests)
	for _, f := range fixtures {
		total += len(f.Phases)
	}
	for _, f := range fixtures {
		for _, phase := range f.Phases {
			if name := f.Name + "/" + string(phase); s.wanted(name) {
				s.done(s.fixture(ctx, e, f, phase), total)
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// maxShown errors are enough to begin with.
const maxShown = 20

// fixture decides one fixture in one phase.
func (s *session) fixture(ctx context.Context, e *policies.Engine, f Fixture, phase policies.Phase) Test {
	t := Test{Kind: KindFixture, File: f.File, Line: f.Line, Name: f.Name + "/" + string(phase)}
	started := time.Now()
	in, err := f.In(s.root.Name(), phase, s.Now)
	if err != nil {
		t.Line = f.inputLine
		t.fail(err.Error())
		return t
	}
	d := e.WithTracer(s.coverage).Decide(ctx, in)
	if d.Undecided == policies.UndecidedInput && f.Expect.Verdict != "error" {
		t.Line = f.inputLine
	}
	for _, problem := range f.Expect.compare(d) {
		t.fail(problem)
	}
	if other := e.WithoutRuleIndex().Decide(ctx, in); differs(d, other) {
		t.fail(fmt.Sprintf("without OPA's rule index the verdict is %s by %v: report it, and write the rule in another way",
			other.Verdict(), policies.RuleIDs(other.Deny)))
	}
	if t.Outcome == Failed {
		t.Notes = findings(d)
	}
	t.Duration = time.Since(started)
	return t
}

// differs compares all that a decision consists of. Its ID covers the verdict and
// the ids of rules alone.
func differs(a, b policies.Decision) bool {
	if a.ID != b.ID || a.Mode != b.Mode || a.Undecided != b.Undecided {
		return true
	}
	parts := func(d policies.Decision) []any { return []any{d.Deny, d.Warn, d.Waivers, d.Grants, d.Obligations} }
	return !reflect.DeepEqual(parts(a), parts(b))
}

// In returns the input of a fixture in a phase; dir is that of the bundle.
func (f Fixture) In(dir string, phase policies.Phase, now time.Time) (policies.Input, error) {
	if !f.now.IsZero() {
		now = f.now
	}
	base := defaultInput
	if f.Manifests != "" {
		in, err := f.fromManifests(filepath.Join(dir, Directory, f.Manifests), phase, now)
		if err != nil {
			return policies.Input{}, err
		}
		if base, err = json.Marshal(in); err != nil {
			return policies.Input{}, fmt.Errorf("encode input: %w", err)
		}
	}
	return build(base, f.Input, phase, now)
}

// compare returns what a decision has that was not expected.
func (e Expect) compare(d policies.Decision) []string {
	var problems []string
	differs := func(what string, got, want any) {
		problems = append(problems, fmt.Sprintf("%s: got %v, want %v", what, got, want))
	}
	if got := d.Verdict().String(); got != e.Verdict {
		differs("verdict", got, e.Verdict)
		if d.Cause() != nil {
			problems = append(problems, d.Cause().Error())
		}
	}
	if e.Undecided != "" && string(d.Undecided) != e.Undecided {
		differs("undecided", d.Undecided, e.Undecided)
	}
	if e.Monitored != nil && d.Monitored() != *e.Monitored {
		differs("monitored", d.Monitored(), *e.Monitored)
	}
	for _, list := range []struct {
		what string
		got  []string
		want *[]string
	}{
		{"deny", policies.RuleIDs(d.Deny), e.Deny},
		{"warn", policies.RuleIDs(d.Warn), e.Warn},
		{"grants", d.Grants, e.Grants},
		{"waivers", d.Waivers, e.Waivers},
	} {
		if list.want != nil && !sameSet(list.got, *list.want) {
			differs(list.what, fmt.Sprint(list.got), fmt.Sprint(*list.want))
		}
	}
	return append(problems, e.obligations(d)...)
}

// obligations compares those that the fixture names.
func (e Expect) obligations(d policies.Decision) []string {
	if e.Obligations == nil {
		return nil
	}
	got, err := asObject(d.Obligations)
	want, err2 := asObject(*e.Obligations)
	if err := errors.Join(err, err2); err != nil {
		return []string{err.Error()}
	}
	var problems []string
	for _, name := range e.obligationNames {
		if g, w := fmt.Sprint(got[name]), fmt.Sprint(want[name]); g != w {
			problems = append(problems, fmt.Sprintf("obligation %s: got %s, want %s", name, orAbsent(got[name]), orAbsent(want[name])))
		}
	}
	return problems
}

// asObject leaves out what is zero, as the decision does.
func asObject(o policies.Obligations) (map[string]any, error) {
	text, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("encode obligations: %w", err)
	}
	object := map[string]any{}
	return object, json.Unmarshal(text, &object)
}

func orAbsent(v any) string {
	if v == nil {
		return "none"
	}
	return fmt.Sprint(v)
}

func sameSet(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}

// findings says what a decision found, for whoever reads a failure.
func findings(d policies.Decision) []string {
	var lines []string
	for _, f := range slices.Concat(d.Deny, d.Warn) {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s: %s", f.ID, f.Check, f.Message)))
	}
	return last(lines, maxNotes)
}
