package policies

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// parseModules parses Rego version 1 with annotations, and refuses a file that
// a bundle may not have.
func parseModules(files map[string]string, forBundle bool) (map[string]*ast.Module, error) {
	modules := make(map[string]*ast.Module, len(files))
	for _, path := range slices.Sorted(maps.Keys(files)) {
		m, err := parseModule(path, files[path])
		if err != nil {
			return nil, &BundleError{path, err.Error(), "correct the Rego syntax"}
		}
		if forBundle {
			if err := checkModule(path, m); err != nil {
				return nil, err
			}
		}
		modules[path] = m
	}
	return modules, nil
}

// parseModule returns the parser's own error, which holds the places.
func parseModule(path, text string) (*ast.Module, error) {
	m, err := ast.ParseModuleWithOpts(path, text, ast.ParserOptions{
		ProcessAnnotation: true, RegoVersion: ast.RegoV1, Capabilities: capabilities(false),
	})
	if err == nil && m == nil {
		return nil, errors.New("is empty")
	}
	return m, err
}

// checkModule refuses what could change the meaning of the library or be
// silently ignored by it.
func checkModule(path string, m *ast.Module) error {
	name, ok := checkName(m.Package.Path)
	if !ok {
		return &BundleError{path, fmt.Sprintf("package is %s", m.Package.Path), "bundles have packages portcullis.checks.<name> only"}
	}
	// Who reviews a bundle goes by the names of files; and one file per package
	// keeps a second one from adding to a check unseen.
	if want := fmt.Sprintf("portcullis/checks/%s/%s.rego", name, name); path != want {
		return &BundleError{path, fmt.Sprintf("package is %s", m.Package.Path), "the file of this check is " + want}
	}
	if err := checkAnnotations(path, m); err != nil {
		return err
	}
	if err := checkNesting(path, m); err != nil {
		return err
	}
	found := false
	for _, r := range m.Rules {
		outlet, err := checkOutlet(path, r)
		if err != nil {
			return err
		}
		found = found || outlet
	}
	if !found {
		return &BundleError{path, "has no deny, warn or obligations, so nothing would use it", fmt.Sprintf("check %s needs one of them; look for a misspelt name", name)}
	}
	return nil
}

// checkName returns the name of the check that a package path stands for.
func checkName(path ast.Ref) (string, bool) {
	if len(path) != 4 || !path.HasPrefix(checksRef()) {
		return "", false
	}
	name, ok := path[3].Value.(ast.String)
	return string(name), ok
}

func checksRef() ast.Ref { return dataRef("portcullis", "checks") }

func dataRef(names ...string) ast.Ref {
	ref := ast.Ref{ast.DefaultRootDocument}
	for _, n := range names {
		ref = append(ref, ast.StringTerm(n))
	}
	return ref
}

// checkAnnotations requires the schema of the input on the package and refuses
// any other: without it, or behind another one, a misspelt field is undefined
// and a deny rule that reads it never fires.
func checkAnnotations(path string, m *ast.Module) error {
	const remedy = "put a METADATA block with schemas: [input: schema.input] above package, and no other schemas"
	annotated := false
	for _, a := range m.Annotations {
		for _, s := range a.Schemas {
			if s.Definition != nil || s.Path.String() != "input" || s.Schema.String() != "schema.input" {
				return &BundleError{path, "annotates another schema than schema.input for input", remedy}
			}
			annotated = annotated || a.Scope == "package"
		}
		if a.Scope == "subpackages" {
			return &BundleError{path, "annotates subpackages", "annotate the package"}
		}
	}
	if !annotated {
		return &BundleError{path, "the package lacks the schema of the input", remedy}
	}
	return nil
}

// checkOutlet reports whether the library reads the rule, and refuses one of
// that name in a shape that the library would overlook: deny := true is a rule
// that never denies anything. Rules of other names are helpers, which begin with
// an underscore: denny would never deny anything either.
func checkOutlet(path string, r *ast.Rule) (bool, error) {
	ref := r.Head.Ref()
	name := strings.TrimPrefix(ref[0].String(), "data.")
	place := fmt.Sprintf("%s:%d", path, r.Loc().Row)
	plain := len(ref) == 1 && len(r.Head.Args) == 0
	switch name {
	case "deny", "warn":
		if !plain || r.Head.RuleKind() != ast.MultiValue || r.Default || r.Else != nil {
			return false, &BundleError{place, name + " is not a set of findings", fmt.Sprintf("write %s contains finding if { ... }", name)}
		}
		return true, nil
	case "obligations":
		if !plain || r.Head.RuleKind() != ast.SingleValue {
			return false, &BundleError{place, "obligations is not one object", "write obligations := {...} if { ... }"}
		}
		return true, nil
	}
	if !strings.HasPrefix(name, "_") {
		return false, &BundleError{
			place, fmt.Sprintf("nothing uses rule %s", name),
			fmt.Sprintf("correct it to deny, warn or obligations, or name the helper _%s", name),
		}
	}
	return false, nil
}
