package policies

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"
)

// value returns the document as the store holds it: parsed, since parsing grants for
// each decision would cost as much as the decision. Nobody may change it.
func (d document) value() (ast.Object, error) {
	config, err := ast.InterfaceToValue(d.Config)
	if err != nil {
		return nil, fmt.Errorf("encode bundle data: %w", err)
	}
	waivers, err := ast.InterfaceToValue(d.Waivers)
	if err != nil {
		return nil, fmt.Errorf("encode bundle data: %w", err)
	}
	f := filing{
		texts: map[string]*ast.Term{}, numbers: map[int64]*ast.Term{}, records: map[string]filedRecord{},
		none: ast.NewTerm(ast.NewObject()),
	}
	index := f.index(d.Grants.BySubject)
	if f.notText {
		return nil, &BundleError{"grants", "hold text that is not UTF-8", "build the index with portcullis policy build"}
	}
	section := func(name string, v ast.Value) [2]*ast.Term { return ast.Item(ast.StringTerm(name), ast.NewTerm(v)) }
	data := ast.NewObject(
		section("config", config),
		section("grants", ast.NewObject(section("by_subject", index))),
		section("waivers", waivers),
	)
	return ast.NewObject(section("portcullis", data)), nil
}

// object returns the document as people's tools read it.
func (d document) object() (map[string]any, error) {
	value, err := d.value()
	if err != nil {
		return nil, err
	}
	data, err := ast.JSON(value)
	if err != nil {
		return nil, fmt.Errorf("encode bundle data: %w", err)
	}
	object, ok := data.(map[string]any)
	if !ok {
		return nil, errors.New("encode bundle data: not an object")
	}
	return object, nil
}

// filing makes the stored form of an index. It says what GrantRecord's JSON says,
// and makes each part of it once: a grant is filed under every pair of a subject and
// a secret, owners and providers have many grants, and what the engine in force does
// not hold the garbage collector need not walk while decisions wait for it.
type filing struct {
	texts   map[string]*ast.Term // those that repeat
	numbers map[int64]*ast.Term
	records map[string]filedRecord
	none    *ast.Term // the object without keys
	notText bool      // a text is not UTF-8
}

// filedRecord is the first record of an id.
type filedRecord struct {
	record GrantRecord
	term   *ast.Term
}

// index is in the order of its keys, so that sorting them later costs nothing.
func (f *filing) index(x GrantIndex) ast.Object {
	subjects := make([][2]*ast.Term, 0, len(x))
	for _, subject := range slices.Sorted(maps.Keys(x)) {
		bySecret := x[subject]
		secrets := make([][2]*ast.Term, 0, len(bySecret))
		for _, key := range slices.Sorted(maps.Keys(bySecret)) {
			records := make([]*ast.Term, 0, len(bySecret[key]))
			for _, r := range bySecret[key] {
				records = append(records, f.recordOnce(r))
			}
			secrets = append(secrets, ast.Item(f.once(key), ast.NewTerm(ast.NewArray(records...))))
		}
		subjects = append(subjects, ast.Item(f.once(subject), ast.NewTerm(ast.NewObject(secrets...))))
	}
	return ast.NewObject(subjects...)
}

// recordOnce returns the term of an equal record if there was one.
func (f *filing) recordOnce(r GrantRecord) *ast.Term {
	if have, ok := f.records[r.ID]; ok && reflect.DeepEqual(have.record, r) {
		return have.term
	}
	term := f.record(r)
	f.records[r.ID] = filedRecord{r, term}
	return term
}

// record leaves out what GrantRecord's JSON leaves out.
func (f *filing) record(r GrantRecord) *ast.Term {
	fields := make([][2]*ast.Term, 0, 12)
	add := func(name string, value *ast.Term) {
		if value != nil {
			fields = append(fields, ast.Item(f.shared(name), value))
		}
	}
	add("id", f.once(r.ID))
	add("owner", f.shared(r.Owner))
	add("not_after_ns", f.number(r.NotAfterNS))
	add("provider", f.shared(r.Provider))
	if len(r.NamespaceLabels) > 0 {
		add("namespace_labels", f.words(r.NamespaceLabels))
	}
	add("scoping", f.words(r.Scoping))
	add("audiences", f.list(r.Audiences))
	if r.MaxFileMode != nil {
		add("max_file_mode", f.number(int64(*r.MaxFileMode)))
	}
	if r.OwnerUID != nil {
		add("owner_uid", f.number(*r.OwnerUID))
	}
	add("sync_targets", f.list(r.SyncTargets))
	add("image_signers", f.list(r.ImageSigners))
	if p := r.Pods; p != nil {
		add("pods", f.narrowing(*p))
	}
	return ast.NewTerm(ast.NewObject(fields...))
}

func (f *filing) narrowing(p PodNarrowing) *ast.Term {
	var fields [][2]*ast.Term
	for _, part := range []struct {
		name string
		list []string
	}{
		{"owner_kinds", p.OwnerKinds}, {"owner_names", p.OwnerNames},
		{"image_repositories", p.ImageRepositories}, {"name_patterns", p.NamePatterns},
	} {
		if value := f.list(part.list); value != nil {
			fields = append(fields, ast.Item(f.shared(part.name), value))
		}
	}
	return ast.NewTerm(ast.NewObject(fields...))
}

// list returns nil for an empty list.
func (f *filing) list(texts []string) *ast.Term {
	if len(texts) == 0 {
		return nil
	}
	items := make([]*ast.Term, 0, len(texts))
	for _, s := range texts {
		items = append(items, f.shared(s))
	}
	return ast.NewTerm(ast.NewArray(items...))
}

func (f *filing) words(m map[string]string) *ast.Term {
	if len(m) == 0 {
		return f.none
	}
	pairs := make([][2]*ast.Term, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		pairs = append(pairs, ast.Item(f.shared(key), f.shared(m[key])))
	}
	return ast.NewTerm(ast.NewObject(pairs...))
}

func (f *filing) number(n int64) *ast.Term {
	if term := f.numbers[n]; term != nil {
		return term
	}
	term := ast.NewTerm(ast.Number(strconv.FormatInt(n, 10)))
	f.numbers[n] = term
	return term
}

// shared returns the one term of a text that repeats.
func (f *filing) shared(s string) *ast.Term {
	if term := f.texts[s]; term != nil {
		return term
	}
	term := f.once(s)
	f.texts[s] = term
	return term
}

// once returns a term of a text that hardly repeats.
func (f *filing) once(s string) *ast.Term {
	// Where JSON is written, it would become another text.
	f.notText = f.notText || !utf8.ValidString(s)
	return ast.StringTerm(s)
}
