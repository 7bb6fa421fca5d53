package secretref

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// What may be the name of a field in text that no parser took: at the start of
// a line, an item or a flow collection, behind tags and anchors; a complex key
// stands on a line of its own. They may find too much; then a class that could
// not be read is denied by PR-120 rather than by PR-013.
var (
	fieldInText = regexp.MustCompile(`(?m)(?:^|[{\[,])[ \t]*(?:[-?][ \t]+)*(?:[!&][^ \t\n]*[ \t]+)*["']?([A-Za-z0-9_./ -]+?)["']?[ \t]*:`)
	complexKey  = regexp.MustCompile(`(?m)^[ \t]*(?:-[ \t]+)*\?[ \t]+["']?([A-Za-z0-9_./ -]+?)["']?[ \t]*$`)
)

// credentialText reports whether a text that could not be read for certain has a
// field that is named like a credential, anywhere: the first thing that is wrong
// with a text is seldom the only one.
func credentialText(text string) bool {
	if root, err := parseDocument(objectsParameter, text); err == nil {
		return credentialKey(root.yaml)
	}
	return credentialLine(text)
}

// credentialKey walks all keys below a node, and the texts in texts: some
// providers take a list of YAML texts. Aliases lead to nodes that are walked
// where they stand.
func credentialKey(n *yaml.Node) bool {
	if n.Kind == yaml.ScalarNode {
		return credentialLine(n.Value)
	}
	if n.Kind == yaml.MappingNode {
		for i := 0; i < len(n.Content); i += 2 {
			if key := n.Content[i]; key.Kind == yaml.ScalarNode && credentialName(key.Value) {
				return true
			}
		}
	}
	return slices.ContainsFunc(n.Content, credentialKey)
}

// credentialArgument reports whether a value, which itself is a text that some
// server reads, holds a credential: as a field of YAML or JSON, or as what stands
// behind password= in a form.
func credentialArgument(text string) bool {
	return credentialValue(text) || credentialLine(text) || credentialQuery("&"+text)
}

// queryInText is what may be the name of an argument in a query.
var queryInText = regexp.MustCompile(`[?&;]\s*([^?&;=\s"']+)=`)

// credentialQuery finds the arguments of queries in a text.
func credentialQuery(text string) bool {
	return slices.ContainsFunc(queryInText.FindAllStringSubmatch(text, -1), func(m []string) bool {
		name, err := url.QueryUnescape(m[1])
		return credentialName(m[1]) || err == nil && credentialName(name)
	})
}

// credentialLine finds fields in a text that no parser took. Those of exactly
// the known names are the provider's own, and hold no credential.
func credentialLine(text string, known ...string) bool {
	// These end lines in YAML 1.1, which is one reason not to have parsed.
	text = strings.NewReplacer("\r", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n").Replace(text)
	found := append(fieldInText.FindAllStringSubmatch(text, -1), complexKey.FindAllStringSubmatch(text, -1)...)
	return slices.ContainsFunc(found, func(m []string) bool { return credentialName(m[1]) && !slices.Contains(known, m[1]) })
}
