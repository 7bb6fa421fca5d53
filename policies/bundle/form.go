package bundle

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"

	"github.com/portcullis-csi/portcullis/policies"
)

// form is how a text has to be spelt. Fields name theirs in the tag form, so that
// the reader and the JSON Schema say the same.
//
//	form:"id"       the form of the text, of each text in a list, of each value
//	keys:"labelKey" the form of each key of a map
//	need:"hint"     the field must be there
//	empty:"ok"      a list may be empty
//	doc:"..."       the description in the schema
type form struct {
	pattern *regexp.Regexp
	problem string // after the quoted text
	hint    string
}

const nameForm = `[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?`

// The forms. A key of the grant index is made of names, so none of them may hold
// the characters that separate them.
var (
	idPattern         = regexp.MustCompile(`^[A-Za-z0-9][-A-Za-z0-9_.]{0,62}$`)
	textPattern       = regexp.MustCompile(`^[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]{1,1000}$`)
	accountPattern    = regexp.MustCompile(`^(\*|` + nameForm + `)$`)
	namespacePattern  = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	labelKeyPattern   = regexp.MustCompile(`^(` + nameForm + `/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)
	labelValuePattern = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)
	modePattern       = regexp.MustCompile(`^0([04][04]4|[04]4[04]|4[04][04])$`)
	podNamePattern    = regexp.MustCompile(`^[a-z0-9][-a-z0-9.]{0,252}\*?$`)
	providerPattern   = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,30}$`)
	datePattern       = regexp.MustCompile(`^2[0-9]{3}-[0-9]{2}-[0-9]{2}$`)
	secretPattern     = regexp.MustCompile(`^([a-zA-Z0-9_-]{1,30}://[^/#@ ]+/|unparsed:[0-9a-f]{64}$)`)
	rulePattern       = regexp.MustCompile(`^PR-[0-9]{3}$`)
	monitoredPattern  = regexp.MustCompile(`^(\*|PR-[0-9]{3})$`)
	checkPattern      = regexp.MustCompile(`^[A-Za-z0-9_][-A-Za-z0-9_.]*$`)
	lossPattern       = regexp.MustCompile(`^(keep|scrub)$`)
	rootPattern       = regexp.MustCompile(`^portcullis$`)
	contractPattern   = regexp.MustCompile(`^portcullis/v1$`)
	revisionPattern   = regexp.MustCompile(`^[!-~]([ -~]{0,126}[!-~])?$`)
	commitPattern     = regexp.MustCompile(`^[0-9A-Za-z][-0-9A-Za-z._/]{0,127}$`)
)

// formOf returns the form of a name; one without a pattern is any text.
func formOf(name string) form {
	switch name {
	case "id":
		return form{idPattern, "is not 1 to 63 letters, digits, dots, _ or -", ""}
	case "text":
		return form{textPattern, "has characters that cannot be seen, or more than 1000", "write it in one line of plain text"}
	case "account":
		return form{accountPattern, "is not a service account", `patterns are not supported, only "*" alone`}
	case "namespace":
		return form{namespacePattern, "is not a namespace", "name each, or let a grant use namespaceSelector"}
	case "labelKey":
		return form{labelKeyPattern, "is not a label", ""}
	case "labelValue":
		return form{labelValuePattern, "is not a label", ""}
	case "mode":
		return form{modePattern, "is not an octal mode of read bits", `use read bits only, in quotes: "0400", "0440" or "0444"`}
	case "podName":
		return form{podNamePattern, "is not a pod name or a prefix and *", ""}
	case "provider":
		return form{providerPattern, "is not the name of a provider", "1 to 30 letters, digits, _ and -"}
	default:
		return formOfRest(name)
	}
}

func formOfRest(name string) form {
	switch name {
	case "date":
		return form{datePattern, "is not a date", "use an RFC 3339 date such as 2026-12-31"}
	case "secret":
		return form{secretPattern, "is not a secret id", secretHint}
	case "rule":
		return form{rulePattern, "is not the id of a rule", "ids look like PR-200"}
	case "monitored":
		return form{monitoredPattern, "is not the id of a rule", `list ids such as PR-200, or ["*"] alone for all rules`}
	case "check":
		return form{checkPattern, "is not the name of a check", ""}
	case "loss":
		return form{lossPattern, "is another answer", "use keep or scrub"}
	case "root":
		return form{rootPattern, "is another root", `use ["portcullis"]`}
	case "contract":
		return form{contractPattern, "is another contract", "use portcullis/v1"}
	case "revision":
		return form{revisionPattern, "is not 1 to 128 visible characters of ASCII", ""}
	case "commit":
		return form{commitPattern, "is not a commit", "use its hexadecimal digits, or a tag"}
	default:
		return form{}
	}
}

// idHint tells how an id is spelt: any other spelling would never apply.
const idHint = "letters, digits and -._~:=+, stand for themselves, every other character is %XX in upper case, and no path ends in a slash"

const secretHint = "use <provider>://<backend>/<path>, a prefix that ends in /*, or an id that ends in #*; " + idHint

// FormOf returns the pattern that the tag form of a field stands for, "" for any
// text.
func FormOf(name string) string {
	if f := formOf(name); f.pattern != nil {
		return f.pattern.String()
	}
	return ""
}

// report takes what is wrong at a path of an entry.
type report func(path, problem, hint string)

// forms checks the fields of structs by their tags, which it reads once for each
// type: reading them takes longer than what they ask for.
type forms map[reflect.Type][]fieldForm

// fieldForm is what the tags of a field say.
type fieldForm struct {
	name       string // in JSON
	form, keys string
	need       string
	needed     bool
	mayBeEmpty bool
}

func (f forms) of(typ reflect.Type) []fieldForm {
	if known, ok := f[typ]; ok {
		return known
	}
	fields := make([]fieldForm, 0, typ.NumField())
	for field := range typ.Fields() {
		need, needed := field.Tag.Lookup("need")
		fields = append(fields, fieldForm{
			name: jsonName(field), form: field.Tag.Get("form"), keys: field.Tag.Get("keys"), need: need, needed: needed,
			mayBeEmpty: field.Tag.Get("empty") == "ok",
		})
	}
	f[typ] = fields
	return fields
}

func (f forms) check(v reflect.Value, prefix string, add report) {
	for i, field := range f.of(v.Type()) {
		f.checkField(field, v.Field(i), prefix+field.name, add)
	}
}

func (f forms) checkField(field fieldForm, v reflect.Value, path string, add report) {
	absent := v.IsZero() || field.needed && (v.Kind() == reflect.Slice || v.Kind() == reflect.Map) && v.Len() == 0
	switch {
	case absent && field.needed:
		add(path, "is missing", field.need)
		return
	case absent:
		return
	}
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.Struct:
		if v.Type().PkgPath() == "time" {
			return
		}
		f.check(v, path+".", add)
	case reflect.String:
		if problem, hint := misspelt(field.form, v.String()); problem != "" {
			add(path, problem, hint)
		}
	case reflect.Slice:
		checkList(field, v, path, add)
	case reflect.Map:
		if v.Type().Elem().Kind() == reflect.String {
			checkMap(field, v, path, add)
		}
	case reflect.Int64:
		if n := v.Int(); field.form == "uid" && (n < 0 || n > maxUID) {
			add(path, fmt.Sprintf("%d is not a user id", n), "use a number from 0 to 4294967294")
		}
	default:
	}
}

// maxUID is the last user id: 2^32-1 means "leave as it is" to chown(2).
const maxUID = 1<<32 - 2

// checkList refuses empty lists where they restrict: a reader could take one for
// "none" and another for "no restriction".
func checkList(field fieldForm, v reflect.Value, path string, add report) {
	if v.Len() == 0 && !field.mayBeEmpty {
		add(path, "is empty", "leave it out, or name at least one")
	}
	for i := range v.Len() {
		problem, hint := "is an empty text", "leave it out"
		if item := v.Index(i).String(); item != "" {
			problem, hint = misspelt(field.form, item)
		}
		if problem != "" {
			add(fmt.Sprintf("%s[%d]", path, i), problem, hint)
		}
	}
}

func checkMap(field fieldForm, v reflect.Value, path string, add report) {
	texts := map[string]string{}
	for _, key := range v.MapKeys() {
		texts[key.String()] = v.MapIndex(key).String()
	}
	for _, key := range slices.Sorted(maps.Keys(texts)) {
		for _, asked := range []struct{ form, text string }{{field.keys, key}, {field.form, texts[key]}} {
			if problem, hint := misspelt(asked.form, asked.text); problem != "" {
				add(path+"."+key, problem, hint)
			}
		}
	}
}

// misspelt says what is wrong with one text, "" if nothing is. It quotes the text,
// which comes from outside.
func misspelt(name, text string) (problem, hint string) {
	f := formOf(name)
	ok := f.pattern == nil || f.matches(text)
	switch name {
	case "date":
		_, err := policies.EndOfDate(text)
		ok = ok && err == nil
	case "secret":
		return "", "" // its fields are checked in full elsewhere, and once is enough
	}
	if ok {
		return "", ""
	}
	return fmt.Sprintf("%q %s", clip(text), f.problem), f.hint
}

// matches asks the pattern, or what says the same faster: counting a thousand of
// anything takes an expression ten times as long as reading it.
func (f form) matches(text string) bool {
	if f.pattern == textPattern {
		return isText(text)
	}
	return f.pattern.MatchString(text)
}

// isText says what textPattern says.
func isText(text string) bool {
	n := 0
	for _, r := range text {
		if n++; hidden(r) {
			return false
		}
	}
	return n >= 1 && n <= 1000
}

// clip keeps a quoted text short.
func clip(text string) string {
	const longest = 200
	if len(text) <= longest {
		return text
	}
	return text[:longest] + "..."
}
