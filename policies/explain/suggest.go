package explain

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/portcullis-csi/portcullis/policies"
)

const (
	suggestedDays = 90
	// maxGrantID is what a bundle accepts, less room for the number of a grant.
	maxGrantID = 60
)

// suggest returns the smallest grants that would let the volume have what no
// grant gives it, as YAML, "" where that is not what it lacks. One grant has one
// owner of files, so there may be several.
func (x *Explainer) suggest(d policies.Decision) string {
	if !onlyGrantsLack(d) {
		return ""
	}
	in := d.Input()
	groups := map[string][]policies.Request{} // by uid
	for _, r := range in.Requests {
		if len(x.grants.serving(d, r)) > 0 || !policies.ValidSecret(r.Secret) {
			continue
		}
		uid := ""
		if r.UID != nil {
			uid = strconv.FormatInt(*r.UID, 10)
		}
		groups[uid] = append(groups[uid], r)
	}
	var b strings.Builder
	for i, uid := range slices.Sorted(maps.Keys(groups)) {
		x.writeGrant(&b, grantText{in: in, uid: uid, requests: groups[uid], number: i})
	}
	return b.String()
}

type grantText struct {
	in       policies.Input
	uid      string
	requests []policies.Request
	number   int
}

// id is one that nothing else in the bundle has.
func (x *Explainer) id(t grantText) string {
	base := strings.Join([]string{"G", t.in.Subject.Namespace, t.in.Subject.ServiceAccount, t.in.SPC.Name}, "-")
	base = strings.TrimRight(base[:min(len(base), maxGrantID-2)], "-.")
	for n := t.number; ; n++ {
		id := base
		if n > 0 {
			id += "-" + strconv.Itoa(n+1)
		}
		if x.grants.byID[id] == nil {
			return id
		}
	}
}

func (x *Explainer) writeGrant(b *strings.Builder, t grantText) {
	fmt.Fprintf(b, "- id: %s\n", quoted(x.id(t)))
	b.WriteString("  owner: \"\" # fill in who answers for the secret\n")
	fmt.Fprintf(b, "  expiry: %s\n", x.expiry)
	fmt.Fprintf(b, "  namespaces: [%s]\n", quoted(t.in.Subject.Namespace))
	fmt.Fprintf(b, "  serviceAccounts: [%s]\n", quoted(t.in.Subject.ServiceAccount))
	fmt.Fprintf(b, "  provider: %s\n", quoted(t.in.SPC.Provider))
	b.WriteString("  secrets:\n")
	for _, secret := range secrets(t.requests) {
		fmt.Fprintf(b, "    - %s\n", quoted(secret))
	}
	if len(t.in.SPC.Scoping) > 0 {
		b.WriteString("  scoping:\n")
		for _, name := range slices.Sorted(maps.Keys(t.in.SPC.Scoping)) {
			fmt.Fprintf(b, "    %s: %s\n", quoted(name), quoted(t.in.SPC.Scoping[name]))
		}
	}
	if t.uid != "" {
		fmt.Fprintf(b, "  ownerUID: %s\n", t.uid)
	}
}

// quoted is a text as YAML and JSON both have it, in ASCII: whoever wrote the
// manifest must not write lines of the grant.
func quoted(s string) string {
	for _, c := range s {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.ContainsRune("-./:", c) || c >= '0' && c <= '9' {
			continue
		}
		return jsonQuoted(s)
	}
	if plain(s) {
		return s
	}
	return jsonQuoted(s)
}

// plain reports whether YAML reads the text as itself: it begins with a letter, no
// colon ends it, and it is none of YAML's words.
func plain(s string) bool {
	if s == "" || s[0] < 'A' || strings.HasSuffix(s, ":") {
		return false
	}
	switch strings.ToLower(s) {
	case "y", "n", "yes", "no", "on", "off", "true", "false", "null":
		return false
	default:
		return true
	}
}

func jsonQuoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		case c >= ' ' && c <= '~':
			b.WriteRune(c)
		case c > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, c)
		default:
			fmt.Fprintf(&b, `\u%04x`, c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// secrets are the ids of requests, sorted, each once.
func secrets(requests []policies.Request) []string {
	var all []string
	for _, r := range requests {
		all = append(all, r.Secret)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
