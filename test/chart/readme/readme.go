package readme

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Value is a row of the table.
type Value struct{ Key, Type, Default, Description string }

const head = `# %s

%s

Generated from Chart.yaml and values.yaml by %smake generate%s; edit those. How to install, size, upgrade and remove it is in
[docs/OPERATIONS.md](../../docs/OPERATIONS.md); how to come from the upstream driver in [docs/MIGRATION.md](../../docs/MIGRATION.md).

| chart | programs | Kubernetes | Helm |
|---|---|---|---|
| %s | %s | %s | 3 and 4 |

## Values

| key | type | default | description |
|---|---|---|---|
`

// Of returns the README of the chart in a directory.
func Of(dir string) (string, error) {
	var chart struct{ Name, Description, Version, AppVersion, KubeVersion string }
	text, err := os.ReadFile(filepath.Join(dir, "Chart.yaml"))
	if err != nil {
		return "", err
	}
	var fields map[string]any
	if err := yaml.Unmarshal(text, &fields); err != nil {
		return "", fmt.Errorf("parse Chart.yaml: %w", err)
	}
	for name, into := range map[string]*string{"name": &chart.Name, "description": &chart.Description, "version": &chart.Version, "appVersion": &chart.AppVersion, "kubeVersion": &chart.KubeVersion} {
		*into, _ = fields[name].(string)
		if *into == "" {
			return "", fmt.Errorf("parse Chart.yaml: %s is missing", name)
		}
	}
	if text, err = os.ReadFile(filepath.Join(dir, "values.yaml")); err != nil {
		return "", err
	}
	values, err := Values(text)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, head, chart.Name, sentence(chart.Description), "`", "`", chart.Version, chart.AppVersion, strings.TrimSuffix(chart.KubeVersion, "-0"))
	for _, v := range values {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", v.Key, v.Type, v.Default, cell(v.Description))
	}
	return b.String(), nil
}

func sentence(s string) string { return strings.TrimSuffix(s, ".") + "." }

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// Values returns the rows for the text of values.yaml, in its order. A map whose
// comment describes it is one row; one without is what its values are.
func Values(text []byte) ([]Value, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, fmt.Errorf("parse values.yaml: %w", err)
	}
	if len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New("parse values.yaml: it is no map")
	}
	return rows("", document.Content[0])
}

func rows(prefix string, node *yaml.Node) ([]Value, error) {
	var found []Value
	var wrong error
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		name := prefix + key.Value
		description, preset := comment(key.HeadComment)
		switch {
		case description != "":
			row, err := row(name, value)
			row.Description = description
			if preset != "" {
				row.Default = preset
			}
			found = append(found, row)
			wrong = errors.Join(wrong, err)
		case value.Kind == yaml.MappingNode && len(value.Content) > 0:
			below, err := rows(name+".", value)
			found = append(found, below...)
			wrong = errors.Join(wrong, err)
		default:
			wrong = errors.Join(wrong, fmt.Errorf("values.yaml:%d: %s has no description; hint: write one above it that begins with \"# -- \"", key.Line, name))
		}
	}
	return found, wrong
}

func row(name string, value *yaml.Node) (Value, error) {
	var decoded any
	if err := value.Decode(&decoded); err != nil {
		return Value{}, fmt.Errorf("values.yaml:%d: %w", value.Line, err)
	}
	kinds := map[string]string{"!!str": "string", "!!int": "int", "!!float": "float", "!!bool": "bool", "!!seq": "list", "!!map": "object", "!!null": "null"}
	preset, err := json.Marshal(decoded)
	return Value{Key: name, Type: kinds[value.Tag], Default: "`" + cell(string(preset)) + "`"}, err
}

// comment reads the last block of a comment that begins with "# --", and the
// default that it gives by @default.
func comment(text string) (description, preset string) {
	in := false
	var words []string
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "#"))
		if first, ok := strings.CutPrefix(line, "-- "); ok {
			in, words, preset = true, []string{first}, ""
		} else if given, ok := strings.CutPrefix(line, "@default -- "); ok {
			preset = given
		} else if in && line != "" {
			words = append(words, line)
		}
	}
	return strings.Join(words, " "), preset
}
