package explain

import (
	"maps"
	"slices"
	"strings"

	"github.com/portcullis-csi/portcullis/policies"
)

const (
	labelScope = "label:"
	anyAccount = "*"
)

// Grants are those of a bundle, by id and by where they are filed.
type Grants struct {
	index     policies.GrantIndex
	labelKeys []string
	byID      map[string]*granted
	ordered   []*granted // by id
}

// granted is one grant with all keys that it is filed under.
type granted struct {
	policies.GrantRecord
	subjects []subjectKey
	secrets  []string
}

// subjectKey is a key of the index, taken apart.
type subjectKey struct{ scope, account string }

// NewGrants turns the index of a bundle round.
func NewGrants(c policies.Contents) *Grants {
	g := &Grants{index: c.Grants, labelKeys: c.NamespaceLabelKeys, byID: map[string]*granted{}}
	for _, subject := range slices.Sorted(maps.Keys(c.Grants)) {
		at := strings.LastIndex(subject, "/")
		if at < 0 {
			continue // no decision looks there
		}
		for _, secret := range slices.Sorted(maps.Keys(c.Grants[subject])) {
			for _, record := range c.Grants[subject][secret] {
				g.file(record, subjectKey{subject[:at], subject[at+1:]}, secret)
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(g.byID)) {
		g.ordered = append(g.ordered, g.byID[id])
	}
	return g
}

func (g *Grants) file(record policies.GrantRecord, subject subjectKey, secret string) {
	known := g.byID[record.ID]
	if known == nil {
		known = &granted{GrantRecord: record}
		g.byID[record.ID] = known
	}
	if !slices.Contains(known.subjects, subject) {
		known.subjects = append(known.subjects, subject)
	}
	if !slices.Contains(known.secrets, secret) {
		known.secrets = append(known.secrets, secret)
	}
}

// Owner returns who answers for a grant, "" if the bundle does not have it.
func (g *Grants) Owner(id string) string {
	if known := g.byID[id]; known != nil {
		return known.Owner
	}
	return ""
}

// serving returns the ids of the grants that serve a request. A grant that serves
// any request of the decision is live and has its scoping parameters, so that what
// is left to ask is whether it names this secret and this owner.
func (g *Grants) serving(d policies.Decision, r policies.Request) []string {
	var ids []string
	a := ask(r.Secret)
	for _, id := range d.Grants {
		known := g.byID[id]
		if known != nil && known.covers(a) && known.ownerFits(r) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (k *granted) ownerFits(r policies.Request) bool {
	return r.UID == nil || k.OwnerUID != nil && *k.OwnerUID == *r.UID
}

// fits reports whether a scope of the index is the pod's namespace or one of its
// labels that configuration trusts.
func (g *Grants) fits(scope string, s policies.Subject) bool {
	label, ok := strings.CutPrefix(scope, labelScope)
	if !ok {
		return scope == s.Namespace
	}
	key, value, _ := strings.Cut(label, "=")
	have, ok := s.NamespaceLabels[key]
	return ok && have == value && slices.Contains(g.labelKeys, key)
}
