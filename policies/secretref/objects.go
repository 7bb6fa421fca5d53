package secretref

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxObjectsBytes bounds the text before any parser sees it.
const maxObjectsBytes = 64 << 10

// Bounds on nesting, counted before parsing: a list of maps needs two levels.
const (
	maxFlowDepth   = 4
	maxDashesInRow = 2
)

// object is one entry of an objects array.
type object struct {
	name, alias, version string
	mode                 *uint32
	uid                  *int64
}

// file is the path that the object becomes below the volume.
func (o object) file() string {
	if o.alias != "" {
		return o.alias
	}
	return o.name
}

// syntaxError is why a text cannot be read for certain, in our own words: they
// reach policy and events, so they never quote the text.
type syntaxError struct {
	problem string
}

// Error returns the problem.
func (e *syntaxError) Error() string { return e.problem }

var errTooMany = uncertain("objects lists more than " + strconv.Itoa(MaxObjects) + " secrets")

func uncertain(problem string) error { return &syntaxError{problem: problem} }

// parseObjects reads a YAML list of maps, or refuses it.
func parseObjects(text string) ([]object, error) {
	if err := checkText(text); err != nil {
		return nil, err
	}
	list, err := parseDocument(text)
	if err != nil {
		return nil, err
	}
	if list.Kind != yaml.SequenceNode || decorated(list) {
		return nil, uncertain("objects is not a plain list")
	}
	if len(list.Content) == 0 {
		return nil, uncertain("objects is an empty list")
	}
	if len(list.Content) > MaxObjects {
		return nil, errTooMany
	}
	objects := make([]object, len(list.Content))
	for i, n := range list.Content {
		if objects[i], err = parseObject(n, flow(list)); err != nil {
			return nil, err
		}
	}
	return objects, nil
}

// checkText refuses what YAML 1.1 and 1.2 treat differently below the level of
// nodes, and nesting that could exhaust a parser.
func checkText(text string) error {
	switch {
	case text == "":
		return uncertain("objects is missing or empty")
	case len(text) > maxObjectsBytes:
		return uncertain("objects is longer than 64 KiB")
	case !utf8.ValidString(text):
		return uncertain("objects is not UTF-8")
	}
	for _, r := range strings.ReplaceAll(text, "\r\n", "\n") {
		// U+0085, U+2028 and U+2029 end a line in YAML 1.1 only; tabs are
		// white space in some places, and errors in others.
		if r < ' ' && r != '\n' || r >= 0x7f && r <= 0x9f || r == 0x2028 || r == 0x2029 || r == 0xfeff {
			return uncertain("objects has a tab or another control character")
		}
	}
	return checkNesting(text)
}

func checkNesting(text string) error {
	depth := 0
	for _, r := range text {
		switch r {
		case '[', '{':
			if depth++; depth > maxFlowDepth {
				return uncertain("objects is nested too deeply")
			}
		case ']', '}':
			depth--
		}
	}
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimLeft(line, " ")
		dashes := 0
		for strings.HasPrefix(line, "- ") {
			line = strings.TrimLeft(line[1:], " ")
			if dashes++; dashes > maxDashesInRow {
				return uncertain("objects is nested too deeply")
			}
		}
		if strings.HasPrefix(line, "%") || strings.HasPrefix(line, "?") {
			return uncertain("objects has a YAML directive or a complex key")
		}
	}
	return nil
}

// parseDocument returns the root of the only document of text.
func parseDocument(text string) (*yaml.Node, error) {
	d := yaml.NewDecoder(bytes.NewReader([]byte(text)))
	var doc, second yaml.Node
	// The parser's errors quote the text, so they end here.
	if err := d.Decode(&doc); err != nil || doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, uncertain("objects is not valid YAML")
	}
	if err := d.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, uncertain("objects holds more than one YAML document")
	}
	return doc.Content[0], nil
}

// decorated reports anchors, aliases and explicit tags.
func decorated(n *yaml.Node) bool {
	return n.Anchor != "" || n.Alias != nil || n.Kind == yaml.AliasNode || n.Style&yaml.TaggedStyle != 0
}

func flow(n *yaml.Node) bool { return n.Style&yaml.FlowStyle != 0 }

func parseObject(n *yaml.Node, inFlow bool) (object, error) {
	if n.Kind != yaml.MappingNode || decorated(n) {
		return object{}, uncertain("an entry of objects is not a plain map")
	}
	var o object
	seen := make(map[string]bool, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		name, ok := certainString(key, inFlow || flow(n))
		if !ok || decorated(key) || decorated(value) {
			return object{}, uncertain("an entry of objects has an anchor, alias, tag, merge key or a key that is no string")
		}
		if seen[name] {
			return object{}, uncertain("an entry of objects has a field twice")
		}
		seen[name] = true
		if err := o.set(name, value, inFlow || flow(n)); err != nil {
			return object{}, err
		}
	}
	if o.name == "" {
		return object{}, uncertain("an entry of objects has no objectName")
	}
	return o, nil
}

// set reads one field of an entry.
func (o *object) set(field string, value *yaml.Node, inFlow bool) error {
	text, certain := certainString(value, inFlow)
	switch field {
	case "objectName":
		o.name = text
	case "objectAlias":
		o.alias = text
	case "objectVersion":
		o.version = text
	case "filePermission":
		return o.setMode(text, value)
	case "ownerUID":
		return o.setUID(value)
	default:
		return uncertain("an entry of objects has a field that is not known")
	}
	if !certain {
		return uncertain(field + " is not a string to every YAML version: put it in quotes")
	}
	if !printable(text) || len(text) > maxNameBytes {
		return uncertain(field + " is too long or has characters that cannot be printed")
	}
	return nil
}

// setMode takes a quoted octal number only: 0440 without quotes is 288 to YAML
// 1.1 and 440 to YAML 1.2.
func (o *object) setMode(text string, value *yaml.Node) error {
	if value.Kind != yaml.ScalarNode || !quoted(value) {
		return uncertain(`filePermission is not in quotes: write "0440"`)
	}
	mode, err := strconv.ParseUint(text, 8, 32)
	if err != nil || len(text) < 3 || len(text) > 4 {
		return uncertain(`filePermission is not an octal number of three or four digits, such as "0440"`)
	}
	m := uint32(mode)
	o.mode = &m
	return nil
}

// setUID takes decimals without a leading zero, which no YAML version reads in
// another way, in quotes or not.
func (o *object) setUID(value *yaml.Node) error {
	uid, err := strconv.ParseInt(value.Value, 10, 64)
	plain := value.Kind == yaml.ScalarNode && (value.Style == 0 || quoted(value))
	if err != nil || !plain || uid < 1 || uid > math.MaxInt32 || strconv.FormatInt(uid, 10) != value.Value {
		return uncertain("ownerUID is not a decimal number from 1 to 2147483647")
	}
	o.uid = &uid
	return nil
}
