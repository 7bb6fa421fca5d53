package policies

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Contents is what the data of a bundle says about access, for those who explain
// decisions. Engines keep it in another form.
type Contents struct {
	Grants GrantIndex
	// NamespaceLabelKeys are the labels that grants may select namespaces by.
	NamespaceLabelKeys []string
}

// Contents reads the data of a bundle. Compile checks it; this does not.
func (b Bundle) Contents() (Contents, error) {
	var outer struct {
		Portcullis document `json:"portcullis"`
	}
	text, err := json.Marshal(b.Data)
	if err != nil {
		return Contents{}, fmt.Errorf("encode bundle data: %w", err)
	}
	if err := DecodeStrictly(text, &outer); err != nil {
		return Contents{}, fmt.Errorf("decode bundle data: %w", err)
	}
	return Contents{Grants: outer.Portcullis.Grants.BySubject, NamespaceLabelKeys: outer.Portcullis.Config.NamespaceLabelKeys}, nil
}

// SecretKeys are the keys of the grant index that a grant for this secret may be
// filed under: the id, the id without its version, every key of its path, and
// every path prefix; of unparsed parameters the whole id only. The library says
// the same in Rego.
func SecretKeys(id string) []string {
	if strings.HasPrefix(id, unparsedPrefix) {
		return []string{id}
	}
	unversioned, _, _ := strings.Cut(id, "@")
	path, _, keyed := strings.Cut(unversioned, "#")
	keys := []string{id, unversioned}
	if keyed {
		keys = append(keys, path+"#")
	}
	slashes := 0
	for i := range len(path) {
		if path[i] != '/' {
			continue
		}
		// The first two belong to "<provider>://".
		if slashes++; slashes > 2 {
			keys = append(keys, path[:i+1])
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}
