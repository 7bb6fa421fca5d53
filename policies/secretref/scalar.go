package secretref

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// numberBytes are the characters of every number and time stamp of YAML 1.1
// and 1.2: a plain scalar that begins like a number and holds nothing else may
// be one to some library.
const numberBytes = "0123456789abcdefABCDEFxXoOtTzZ_+-.: "

// certainString returns the text of a scalar that YAML 1.1 and 1.2, and the
// libraries in between, all read as the same string.
func certainString(n *yaml.Node, flow bool) (string, bool) {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" {
		return "", false
	}
	switch n.Style {
	case yaml.SingleQuotedStyle, yaml.DoubleQuotedStyle:
		return n.Value, true
	case 0:
		return n.Value, plainIsString(n.Value, flow)
	default:
		return "", false
	}
}

// plainIsString tells whether an unquoted scalar is a string to everybody.
func plainIsString(s string, flow bool) bool {
	if s == "" || strings.IndexByte("=<~", s[0]) >= 0 {
		return false
	}
	if flow && strings.ContainsAny(s, ":?#,[]{}") {
		// YAML 1.1 and 1.2 end plain scalars of flow collections differently.
		return false
	}
	if strings.IndexByte("0123456789+-.", s[0]) >= 0 && strings.Trim(s, numberBytes) == "" {
		return false
	}
	switch strings.ToLower(s) {
	case "null", "true", "false", "yes", "no", "on", "off", "y", "n", ".inf", "+.inf", "-.inf", ".nan":
		return false
	}
	return true
}

// quoted reports whether a scalar stands in quotes.
func quoted(n *yaml.Node) bool {
	return n.Style == yaml.SingleQuotedStyle || n.Style == yaml.DoubleQuotedStyle
}
