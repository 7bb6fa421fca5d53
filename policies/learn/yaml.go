package learn

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/portcullis-csi/portcullis/policies/bundle"
)

// WriteYAML writes the drafts as a file for portcullis/grants, with what a
// reviewer has to know in comments.
func WriteYAML(w io.Writer, r Result) error {
	if _, err := fmt.Fprintf(w, header, r.Used, r.Decisions, r.InputGone); err != nil {
		return err
	}
	for _, m := range r.Remaining {
		if _, err := fmt.Fprintf(w, "# not mended by a grant: %s of %s/%s, %d decisions, %s\n",
			clean(m.Rule), clean(m.Namespace), clean(m.ServiceAccount), m.Decisions, cleanAll(m.Workloads)); err != nil {
			return err
		}
	}
	for _, s := range r.Skipped {
		if _, err := fmt.Fprintf(w, "# nothing drafted from %d decisions: %s\n", s.Count, clean(s.Reason)); err != nil {
			return err
		}
	}
	if len(r.Suggestions) == 0 {
		_, err := io.WriteString(w, "[]\n")
		return err
	}
	list := &yaml.Node{Kind: yaml.SequenceNode}
	for _, s := range r.Suggestions {
		list.Content = append(list.Content, node(s))
	}
	e := yaml.NewEncoder(w)
	e.SetIndent(2)
	if err := e.Encode(list); err != nil {
		return err
	}
	return e.Close()
}

const header = `# Drafted from recorded decisions: %d of %d were learnt from, the input of %d was gone.
# What was asked for is not what should be granted. For each grant: find who
# answers for the secrets, set owner and expiry, and take out what nobody needs.
`

// node is one grant, its fields in the order of docs/POLICIES.md.
func node(s Suggestion) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	n.HeadComment = fmt.Sprintf("%d decisions, the last on %s, for %s\nimages: %s",
		s.Decisions, s.Last.Format(time.DateOnly), cleanAll(s.Workloads), cleanAll(s.Images))
	m := mapping{n}
	g := s.Grant
	m.text("id", g.ID)
	m.text("owner", g.Owner)
	m.plain("expiry", g.Expiry)
	m.list("namespaces", g.Namespaces)
	m.list("serviceAccounts", g.ServiceAccounts)
	m.text("provider", g.Provider)
	m.list("secrets", g.Secrets)
	if len(g.Scoping) > 0 {
		inner := &yaml.Node{Kind: yaml.MappingNode}
		for _, name := range slices.Sorted(maps.Keys(g.Scoping)) {
			mapping{inner}.text(name, g.Scoping[name])
		}
		m.add("scoping", inner)
	}
	m.list("audiences", g.Audiences)
	if g.MaxFileMode != nil {
		m.text("maxFileMode", *g.MaxFileMode)
	}
	if g.OwnerUID != nil {
		m.plain("ownerUID", strconv.FormatInt(*g.OwnerUID, 10))
	}
	m.list("syncTargets", g.SyncTargets)
	m.pods(g.Pods)
	return n
}

type mapping struct{ n *yaml.Node }

func (m mapping) pods(p *bundle.Pods) {
	if p == nil {
		return
	}
	inner := mapping{&yaml.Node{Kind: yaml.MappingNode}}
	inner.list("ownerKinds", p.OwnerKinds)
	inner.list("ownerNames", p.OwnerNames)
	inner.list("imageRepositories", p.ImageRepositories)
	m.add("pods", inner.n)
}

func (m mapping) add(key string, value *yaml.Node) {
	m.n.Content = append(m.n.Content, scalar(key), value)
}

func (m mapping) text(key, value string) { m.add(key, scalar(value)) }

// plain is for what is not text to YAML.
func (m mapping) plain(key, value string) {
	m.add(key, &yaml.Node{Kind: yaml.ScalarNode, Value: value})
}

func (m mapping) list(key string, values []string) {
	if len(values) == 0 {
		return
	}
	n := &yaml.Node{Kind: yaml.SequenceNode}
	for _, v := range values {
		n.Content = append(n.Content, scalar(v))
	}
	m.add(key, n)
}

// scalar is a text, quoted where YAML would take it for something else.
func scalar(text string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(text)
	return n
}

// clean keeps what others wrote from ending a comment or drawing on a terminal.
func clean(text string) string {
	quoted := strconv.QuoteToASCII(text)
	return quoted[1 : len(quoted)-1]
}

func cleanAll(texts []string) string {
	cleaned := make([]string, len(texts))
	for i, t := range texts {
		cleaned[i] = clean(t)
	}
	if len(cleaned) == maxSeen {
		cleaned = append(cleaned, "...")
	}
	return strings.Join(cleaned, ", ")
}
