package audit_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/audit"
)

// comments returns the comment of every struct field of event.go by
// "Type.Field", and of every constant of reason.go by its name.
func comments(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	set := token.NewFileSet()
	for _, name := range []string{"event.go", "reason.go"} {
		file, err := parser.ParseFile(set, name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.TypeSpec:
				if s, ok := n.Type.(*ast.StructType); ok {
					for _, f := range s.Fields.List {
						found[n.Name.Name+"."+f.Names[0].Name] = text(f.Doc, f.Comment)
					}
				}
			case *ast.ValueSpec:
				found[n.Names[0].Name] = text(n.Doc, n.Comment)
			}
			return true
		})
	}
	return found
}

func text(groups ...*ast.CommentGroup) string {
	var words []string
	for _, g := range groups {
		words = append(words, strings.Fields(g.Text())...)
	}
	return strings.Join(words, " ")
}

// describe is the cell of a field: the words it may hold, or the pattern.
func values(f reflect.StructField) string {
	tag, ok := f.Tag.Lookup("check")
	if !ok {
		return kindOf(f.Type)
	}
	words, pattern, longest, _ := audit.RuleOf(tag)
	switch {
	case tag == "type" || tag == "reason" || tag == "code":
		return "see below"
	case words != nil:
		return "`" + strings.Join(words, "` `") + "`"
	case longest > 0:
		return fmt.Sprintf("`%s`, at most %d", escape(pattern.String()), longest)
	default:
		return "`" + escape(pattern.String()) + "`"
	}
}

// escape keeps a pattern from ending its cell.
func escape(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

func kindOf(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == reflect.TypeFor[time.Time]():
		return "RFC 3339 time"
	case t.Kind() == reflect.Slice:
		return "list"
	case t.Kind() == reflect.Struct:
		return "object"
	case t.Kind() == reflect.Bool:
		return "boolean"
	default:
		return "number"
	}
}

func fieldTable(t *testing.T) string {
	t.Helper()
	meaning := comments(t)
	var b strings.Builder
	b.WriteString("| field | | values | meaning |\n|---|---|---|---|\n")
	var rows func(owner reflect.Type, prefix string)
	rows = func(owner reflect.Type, prefix string) {
		for f := range owner.Fields() {
			if !f.IsExported() {
				continue
			}
			name := prefix + jsonName(f)
			inner := f.Type
			for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice {
				inner = inner.Elem()
			}
			if f.Type.Kind() == reflect.Slice {
				name += "[]"
			}
			always := "always"
			if strings.Contains(f.Tag.Get("json"), "omitempty") {
				always = ""
			}
			m := meaning[owner.Name()+"."+f.Name]
			if m == "" {
				t.Errorf("%s.%s has no comment", owner.Name(), f.Name)
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, always, values(f), m)
			if inner.Kind() == reflect.Struct && inner != reflect.TypeFor[time.Time]() {
				rows(inner, name+".")
			}
		}
	}
	rows(reflect.TypeFor[audit.Event](), "")
	return b.String()
}

// codeTable puts codes in brackets that nothing in this version makes.
func codeTable(t *testing.T) string {
	t.Helper()
	makes := map[audit.Type]map[audit.Outcome]bool{}
	for s := range made(t) {
		if makes[s.Type] == nil {
			makes[s.Type] = map[audit.Outcome]bool{}
		}
		makes[s.Type][s.Outcome] = true
	}
	var b strings.Builder
	b.WriteString("| type | codes | meaning |\n|---|---|---|\n")
	for _, k := range audit.Kinds() {
		var codes []string
		now := map[audit.Code]bool{}
		for _, o := range k.Outcomes {
			c := k.Code(o)
			if _, ok := now[c]; !ok {
				codes = append(codes, string(c))
			}
			now[c] = now[c] || makes[k.Type][o]
		}
		for i, c := range codes {
			codes[i] = "`" + c + "`"
			if !now[audit.Code(c)] {
				codes[i] = "(`" + c + "`)"
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", k.Type, strings.Join(codes, " "), k.Meaning)
	}
	return b.String()
}

func reasonTable(t *testing.T) string {
	t.Helper()
	meaning := comments(t)
	var b strings.Builder
	b.WriteString("| reason | meaning |\n|---|---|\n")
	for _, r := range audit.Reasons() {
		m := meaning["Reason"+string(r)]
		if m == "" {
			t.Errorf("Reason%s has no comment, or another value", r)
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", r, m)
	}
	return b.String()
}

func sampleList(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, s := range samples(t) {
		leaf := stored(t, fixed(s.event))
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, leaf, "", "  "); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "### %s\n\n`%s`\n\n```json sample=event\n%s\n```\n\n", s.title, filepath.Base(goldenPath(s.name)), pretty.String())
	}
	return b.String()
}

// replaced returns the document with a block filled in.
func replaced(t *testing.T, doc, block, content string) string {
	t.Helper()
	begin, end := "<!-- "+block+":begin -->\n", "<!-- "+block+":end -->"
	before, rest, ok := strings.Cut(doc, begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("AUDIT_EVENTS.md has no block %q", block)
	}
	return before + begin + "\n" + strings.TrimSpace(content) + "\n\n" + end + after
}

func TestDocumentIsCurrent(t *testing.T) {
	path := filepath.Join("..", "docs", "AUDIT_EVENTS.md")
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(doc)
	for block, content := range map[string]string{
		"fields": fieldTable(t), "codes": codeTable(t), "reasons": reasonTable(t), "samples": sampleList(t),
	} {
		text = replaced(t, text, block, content)
	}
	golden(t, path, []byte(text))
}

func TestCodesAreUnique(t *testing.T) {
	numbers, kinds, codes := map[int]audit.Type{}, map[audit.Type]bool{}, map[audit.Code]audit.Type{}
	for _, k := range audit.Kinds() {
		if other, ok := numbers[k.Number]; ok || k.Number < 1 || k.Number > 9999 {
			t.Errorf("%s has number %d, which %q has", k.Type, k.Number, other)
		}
		if kinds[k.Type] || len(k.Outcomes) == 0 || k.Meaning == "" {
			t.Errorf("%s is there twice, or lacks outcomes or a meaning", k.Type)
		}
		numbers[k.Number], kinds[k.Type] = k.Type, true
		for _, o := range k.Outcomes {
			c := k.Code(o)
			if other, ok := codes[c]; ok && other != k.Type {
				t.Errorf("%s and %s share code %s", k.Type, other, c)
			}
			codes[c] = k.Type
		}
	}
	reasons := map[audit.Reason]bool{}
	for _, r := range audit.Reasons() {
		if reasons[r] || r == "" {
			t.Errorf("reason %q is there twice", r)
		}
		reasons[r] = true
	}
}
