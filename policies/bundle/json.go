package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/portcullis-csi/portcullis/policies"
)

// readJSON reads one JSON value as strictly as readYAML does YAML. A key that is
// written twice is refused: encoding/json takes the last, and others the first.
func readJSON(file string, text []byte, into any) (*tree, error) {
	if err := checkText(file, text); err != nil {
		return nil, err
	}
	p := jsonParser{text: text, line: 1, d: json.NewDecoder(bytes.NewReader(text))}
	p.d.UseNumber()
	root, err := p.value(0)
	if err == nil {
		if _, err = p.d.Token(); errors.Is(err, io.EOF) {
			return readNode(&tree{file, root}, into)
		}
		err = errors.New("more than one value")
	}
	return nil, policies.FileErrors{p.fault(file, err)}
}

// jsonParser makes the nodes of YAML out of JSON, so that both are judged by one
// reader. JSON is not simply parsed as YAML: what is named .json has to be JSON
// for whoever else reads it.
type jsonParser struct {
	text        []byte
	d           *json.Decoder
	done        int // bytes of the text that line and start account for
	line, start int
}

func (p *jsonParser) fault(file string, err error) *policies.FileError {
	at := p.next(int(p.d.InputOffset()))
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		at = max(0, int(syntax.Offset)-1)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		at, err = len(p.text), errors.New("text ends too early")
	}
	n := p.node(at)
	return &policies.FileError{Place: policies.Place{File: file, Line: n.Line, Column: n.Column}, Problem: "parse JSON: " + err.Error()}
}

// next returns where the value after an offset begins.
func (p *jsonParser) next(offset int) int {
	for offset < len(p.text) && bytes.IndexByte([]byte(" \t\r\n,:"), p.text[offset]) >= 0 {
		offset++
	}
	return offset
}

// node returns a node that stands at an offset, which never goes back.
func (p *jsonParser) node(offset int) *yaml.Node {
	for ; p.done < min(offset, len(p.text)); p.done++ {
		if p.text[p.done] == '\n' {
			p.line, p.start = p.line+1, p.done+1
		}
	}
	return &yaml.Node{Line: p.line, Column: max(1, offset-p.start+1)}
}

func (p *jsonParser) value(depth int) (*yaml.Node, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested deeper than %d levels", maxDepth)
	}
	n := p.node(p.next(int(p.d.InputOffset())))
	token, err := p.d.Token()
	if err != nil {
		return nil, err
	}
	switch v := token.(type) {
	case json.Delim:
		return n, p.compound(n, v, depth)
	case string:
		n.Kind, n.Tag, n.Value = yaml.ScalarNode, "!!str", v
	case json.Number:
		n.Kind, n.Tag, n.Value = yaml.ScalarNode, "!!int", v.String()
		if _, err := strconv.ParseInt(n.Value, 10, 64); err != nil {
			n.Tag = "!!float"
		}
	case bool:
		n.Kind, n.Tag, n.Value = yaml.ScalarNode, "!!bool", strconv.FormatBool(v)
	default:
		n.Kind, n.Tag, n.Value = yaml.ScalarNode, "!!null", "null"
	}
	return n, nil
}

// compound reads what is in an object or a list, and what closes it.
func (p *jsonParser) compound(n *yaml.Node, open json.Delim, depth int) error {
	n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
	if open == '{' {
		n.Kind, n.Tag = yaml.MappingNode, "!!map"
	}
	for p.d.More() {
		if open == '{' {
			// Keys are strings: the decoder refuses any other.
			key, err := p.value(depth + 1)
			if err != nil {
				return err
			}
			n.Content = append(n.Content, key)
		}
		item, err := p.value(depth + 1)
		if err != nil {
			return err
		}
		n.Content = append(n.Content, item)
	}
	_, err := p.d.Token()
	return err
}

// encodeJSON writes a value as a bundle holds it: one line, sorted keys, no
// escapes that only HTML needs, and one for each character that a reviewer would
// not see.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encode policy data: %w", err)
	}
	// Outside of strings there is none but the final line end.
	text := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	if !bytes.ContainsFunc(text, hidden) {
		return b.Bytes(), nil
	}
	var seen []byte
	for _, r := range string(text) {
		switch {
		case !hidden(r):
			seen = utf8.AppendRune(seen, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			seen = fmt.Appendf(seen, `\u%04x\u%04x`, high, low)
		default:
			seen = fmt.Appendf(seen, `\u%04x`, r)
		}
	}
	return append(seen, '\n'), nil
}
