package policies_test

import (
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

const authored = "portcullis/checks/odd/odd.rego"

// header is the beginning of a check in five lines.
const header = "# METADATA\n# schemas:\n#   - input: schema.input\npackage portcullis.checks.odd\n\n"

// TestExamineFindsAll: what Compile refuses one at a time is told at once, at its
// place.
func TestExamineFindsAll(t *testing.T) {
	b := valid()
	b.Manifest.Contract = "portcullis/v0"
	config("required_checks", []string{"odd", "missing"})(&b)
	b.Modules = map[string]string{
		authored: header + "deny contains 1 if input.pod.hostPid\n\ndenny if true\n\nwarn contains 2 if input.pod.hostIpc\n",
		"portcullis/checks/second/second.rego": strings.ReplaceAll(header, "odd", "second") +
			"deny contains 1 if input.phase == \"mount\"\n\ndeny := true\n",
	}
	x := policies.Examine(b, options())
	for _, want := range []struct {
		file string
		row  int
		text string
	}{
		{"", 0, `contract is "portcullis/v0"`}, {"", 0, `check "missing" is not in the bundle`},
		{authored, 6, "undefined ref: input.pod.hostPid"}, {authored, 8, "nothing uses rule denny"}, {authored, 10, "undefined ref: input.pod.hostIpc"},
		{"portcullis/checks/second/second.rego", 8, "deny is not a set of findings"},
	} {
		found := false
		for _, p := range x.Problems {
			found = found || p.File == want.file && p.Row == want.row && strings.Contains(p.Text, want.text)
		}
		if !found {
			t.Errorf("Examine() lacks %+v: %+v", want, x.Problems)
		}
	}
}

// TestExamineReferences: what only the compiled rules show has the rule's place.
func TestExamineReferences(t *testing.T) {
	b := valid()
	b.Modules = map[string]string{authored: header + "deny contains 1 if input.phase == \"mount\"\n\ndeny contains 2 if data.portcullis.other\n"}
	x := policies.Examine(b, options())
	if len(x.Problems) != 2 || x.Problems[0].Row != 6 || x.Problems[1].Row != 8 || x.Problems[1].Remedy == "" {
		t.Errorf("Examine() = %+v, want one problem at line 6 and one at line 8", x.Problems)
	}
}

// TestExamineAgreesWithCompile: no problem, no refusal, and the other way round.
func TestExamineAgreesWithCompile(t *testing.T) {
	for _, rego := range []string{
		"deny contains 1 if input.pod.hostPID\n", "deny contains 1 if input.pod.hostPid\n", "deny if {\n", "", "_a := 1\n", "deny := 1\n",
		"obligations contains 1\n", "deny contains 1 if time.now_ns() > 1\n", "deny contains 1 if walk(input.pod)\n", "deny contains 1 if count(input) > 1\n",
		"deny contains 1 if data.portcullis.checks.odd.warn\n", "import data.portcullis.lib\n\ndeny contains 1 if count(lib.mounting_containers) == 0\n",
		"deny contains 1 if input.pod.hostPID with input.pod as {}\n", "deny contains 1 if {\n\tunused := 1\n\tinput.pod.hostPID\n}\n",
	} {
		b := valid()
		b.Modules = map[string]string{authored: header + rego}
		_, err := policies.Compile(t.Context(), b, options())
		x := policies.Examine(b, options())
		if (err == nil) != (len(x.Problems) == 0) {
			t.Errorf("Examine(%q) = %+v, Compile() = %v, want both to refuse or neither", rego, x.Problems, err)
		}
		if len(x.Problems) > 0 && (x.Problems[0].File != authored || x.Problems[0].Text == "" || x.Problems[0].Remedy == "") {
			t.Errorf("Examine(%q) = %+v, want file, text and remedy", rego, x.Problems[0])
		}
	}
}

// TestExamineResolves: lints see absolute names in rules that are not rewritten.
func TestExamineResolves(t *testing.T) {
	b := valid()
	b.Modules = map[string]string{authored: header + "import data.portcullis.lib as l\n\ndeny contains c if some c in l.mounting_containers\n"}
	x := policies.Examine(b, options())
	if text := x.Resolved[authored].String(); !strings.Contains(text, "data.portcullis.lib.mounting_containers") || len(x.Problems) != 0 {
		t.Errorf("Resolved = %s, problems %+v, want the import resolved", text, x.Problems)
	}
	if text := x.Parsed[authored].String(); !strings.Contains(text, "l.mounting_containers") {
		t.Errorf("Parsed = %s, want what was written", text)
	}
}

func TestTestBenchRefusesPathsOfTheBundle(t *testing.T) {
	b := valid()
	b.Modules = map[string]string{authored: header + "deny contains 1 if input.pod.hostPID\n"}
	if _, err := policies.NewTestBench(b, map[string]string{authored: header}); err == nil || !strings.Contains(err.Error(), "is a file of the library or of the bundle") {
		t.Errorf("NewTestBench() = %v, want a refusal of the path", err)
	}
}

// TestToolsDecideTheSame: following an evaluation changes nothing of it.
func TestToolsDecideTheSame(t *testing.T) {
	e, in := policiestest.Engine(t, policiestest.Grants), policiestest.Input()
	want := e.Decide(t.Context(), in)
	trace := topdown.NewBufferTracer()
	for name, other := range map[string]*policies.Engine{"index": e.WithoutRuleIndex(), "tracer": e.WithTracer(trace)} {
		if got := other.Decide(t.Context(), in); got.ID != want.ID || got.Verdict() != policies.VerdictAllow {
			t.Errorf("Decide() with %s = %s %v, want %s", name, got.ID, got.Verdict(), want.ID)
		}
	}
	if len(*trace) == 0 {
		t.Error("the tracer saw nothing")
	}
}

// TestCompileLibrary: it decides by grants alone, whatever checks the bundle has.
func TestCompileLibrary(t *testing.T) {
	b := valid()
	config("required_checks", []string{"odd"})(&b)
	b.Modules = map[string]string{authored: header + "deny contains {\"id\": \"PR-300\", \"severity\": \"low\", \"message\": \"m\"}\n"}
	e, err := policies.CompileLibrary(t.Context(), b, options())
	if err != nil {
		t.Fatal(err)
	}
	d := e.Decide(t.Context(), policiestest.Input())
	if ids := policies.RuleIDs(d.Deny); len(ids) != 1 || ids[0] != "PR-001" {
		t.Errorf("Decide() = %v %v, want PR-001 for want of a grant, and nothing of a check", ids, d.Cause())
	}
}
