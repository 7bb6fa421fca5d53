package policies

import (
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
)

// NewTestCompiler returns the engine's compiler with print and test cases.
func NewTestCompiler() (*ast.Compiler, error) { return newCompiler(true) }

// WithoutIndexing returns an engine that evaluates without OPA's rule index.
func (e *Engine) WithoutIndexing() *Engine {
	c := *e
	c.options = []rego.EvalOption{rego.EvalRuleIndexing(false)}
	return &c
}

// Panicking returns an engine whose evaluations panic.
func (e *Engine) Panicking() *Engine {
	c := *e
	c.options = []rego.EvalOption{func(*rego.EvalContext) { panic("out of stack") }}
	return &c
}

// AllowedBuiltins returns the names that policy may call.
func AllowedBuiltins() []string { return allowedBuiltins() }

// DecodeResult is what Decide makes of a raw result.
func DecodeResult(raw any, in Input) (Decision, error) {
	d := Decision{input: in}
	err := d.adopt(raw)
	return d, err
}

// Stored returns the data of a bundle with this index as the store holds it, and as
// the JSON of its types says it.
func Stored(x GrantIndex) (stored, plain ast.Value, err error) {
	doc := document{Config: config{Monitor: monitor{UntilNS: 1}}, Grants: grants{x}, Waivers: waived{WaiverIndex{}}}
	if stored, err = doc.value(); err != nil {
		return nil, nil, err
	}
	plain, err = ast.InterfaceToValue(map[string]any{"portcullis": doc})
	return stored, plain, err
}
