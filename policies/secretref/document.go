package secretref

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxDocumentBytes bounds the text of one parameter before any parser sees it.
const maxDocumentBytes = 64 << 10

// Bounds on nesting, counted before parsing: a list of maps needs two levels.
const (
	maxFlowDepth   = 4
	maxDashesInRow = 2
)

// syntaxError is why a text cannot be read for certain, in our own words: they
// reach policy and events, so they never quote the text.
type syntaxError struct {
	problem string
}

// Error returns the problem.
func (e *syntaxError) Error() string { return e.problem }

// tooManyError is a list that is beyond the bounds: a bad request.
type tooManyError struct{ list string }

// Error names the list.
func (e *tooManyError) Error() string {
	return e.list + " lists more than " + strconv.Itoa(MaxObjects) + " secrets"
}

func uncertain(problem string) error { return &syntaxError{problem: problem} }

// parseDocument returns the root of a parameter's text, or refuses it. name is
// the parameter's, or what else the text is in our own words.
func parseDocument(name, text string) (node, error) {
	if err := checkText(name, text); err != nil {
		return node{}, err
	}
	d := yaml.NewDecoder(bytes.NewReader([]byte(text)))
	var doc, second yaml.Node
	// The parser's errors quote the text, so they end here.
	if err := d.Decode(&doc); err != nil || doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return node{}, uncertain(name + " is not valid YAML")
	}
	if err := d.Decode(&second); !errors.Is(err, io.EOF) {
		return node{}, uncertain(name + " holds more than one YAML document")
	}
	return node{yaml: doc.Content[0], name: name}, nil
}

// checkText refuses what YAML 1.1 and 1.2 treat differently below the level of
// nodes, and nesting that could exhaust a parser.
func checkText(name, text string) error {
	switch {
	case text == "":
		return uncertain(name + " is missing or empty")
	case len(text) > maxDocumentBytes:
		return uncertain(name + " is longer than 64 KiB")
	case !utf8.ValidString(text):
		return uncertain(name + " is not UTF-8")
	}
	for _, r := range strings.ReplaceAll(text, "\r\n", "\n") {
		// U+0085, U+2028 and U+2029 end a line in YAML 1.1 only; tabs are
		// white space in some places, and errors in others.
		if r < ' ' && r != '\n' || r >= 0x7f && r <= 0x9f || r == 0x2028 || r == 0x2029 || r == 0xfeff {
			return uncertain(name + " has a tab or another control character")
		}
	}
	return checkNesting(name, text)
}

func checkNesting(name, text string) error {
	depth := 0
	for _, r := range text {
		switch r {
		case '[', '{':
			if depth++; depth > maxFlowDepth {
				return uncertain(name + " is nested too deeply")
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
				return uncertain(name + " is nested too deeply")
			}
		}
		if strings.HasPrefix(line, "%") || strings.HasPrefix(line, "?") {
			return uncertain(name + " has a YAML directive or a complex key")
		}
	}
	return nil
}
