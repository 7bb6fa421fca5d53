package check

import (
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/portcullis-csi/portcullis/policies"
)

// LintLibrary runs the lints over the modules of the library.
func LintLibrary() ([]Finding, error) {
	schema, err := inputSchema()
	if err != nil {
		return nil, err
	}
	bench, err := policies.NewTestBench(policies.Bundle{}, nil)
	if err != nil {
		return nil, err
	}
	parsed, resolved := bench.Modules, map[string]*ast.Module{}
	bench.Compiler.WithStageAfterID(ast.StageResolveRefs, ast.CompilerStageDefinition{
		Name: "KeepResolved", MetricName: "keep_resolved",
		Stage: func(c *ast.Compiler) *ast.Error {
			for path := range parsed {
				resolved[path] = c.Modules[path].Copy()
			}
			return nil
		},
	})
	modules := map[string]*ast.Module{}
	for path, m := range parsed {
		modules[path] = m.Copy()
	}
	if bench.Compiler.Compile(modules); bench.Compiler.Failed() {
		return nil, bench.Compiler.Errors
	}
	var found []Finding
	for path := range parsed {
		m := newModule(path, parsed[path], resolved[path], schema)
		m.dataLints()
		m.absentLints()
		found = append(found, m.kept()...)
	}
	return newReport(found).Findings, nil
}
