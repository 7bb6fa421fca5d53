package bundle

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/portcullis-csi/portcullis/policies"
)

// Grant is one grant as its author writes it, in portcullis/grants/*.yaml.
type Grant struct {
	ID                string            `json:"id" form:"id" need:"give every grant an id of its own" doc:"Unique in the bundle; decisions and events name it."`
	Owner             string            `json:"owner" form:"text" need:"name the team that answers for the secret" doc:"Who answers for the secret."`
	Expiry            string            `json:"expiry" form:"date" need:"add a date such as 2026-12-31" doc:"RFC 3339 date; the grant is valid through that day, UTC."`
	Namespaces        []string          `json:"namespaces,omitempty" form:"namespace" doc:"Namespaces by name. Either this or namespaceSelector."`
	NamespaceSelector map[string]string `json:"namespaceSelector,omitempty" keys:"labelKey" form:"labelValue" doc:"Labels that the namespace must have, all of them in namespace_label_keys of the configuration."`
	ServiceAccounts   []string          `json:"serviceAccounts" form:"account" need:"name them, or use [\"*\"] for all of the namespaces" doc:"Service accounts by name, or * alone for all of these namespaces."`
	Provider          string            `json:"provider" form:"provider" need:"name the provider of the SecretProviderClass" doc:"Provider of the SecretProviderClass."`
	Secrets           []string          `json:"secrets" form:"secret" need:"list ids, or prefixes that end in /*" doc:"Secret ids: whole, a prefix that ends in /*, or an id that ends in #* for each of its keys."`
	Scoping           map[string]string `json:"scoping,omitempty" doc:"Exactly the scoping parameters of the class, none more, none less."`
	Audiences         []string          `json:"audiences,omitempty" form:"text" doc:"Token audiences that go to the provider; absent: all."`
	MaxFileMode       *string           `json:"maxFileMode,omitempty" form:"mode" doc:"Read bits that files may have, octal, in quotes; absent: the ceiling of the volume."`
	OwnerUID          *int64            `json:"ownerUID,omitempty" form:"uid" doc:"User that a file may belong to; absent: none but root."`
	SyncTargets       []string          `json:"syncTargets,omitempty" form:"text" doc:"Secret objects that copies may go to; absent: none."`
	ImageSigners      []string          `json:"imageSigners,omitempty" form:"text" doc:"Every container that mounts the volume has to be signed by one of them. This version verifies no image signatures: such a grant is never live."`
	Pods              *Pods             `json:"pods,omitempty" doc:"Narrows the grant to some pods of the subject. It never identifies, since whoever writes pods chooses all of it."`
}

// Pods narrows a grant to some pods of the subject.
type Pods struct {
	OwnerKinds        []string `json:"ownerKinds,omitempty" form:"text" doc:"Kinds of the controller that owns the pod."`
	OwnerNames        []string `json:"ownerNames,omitempty" form:"text" doc:"Names of the controller that owns the pod."`
	ImageRepositories []string `json:"imageRepositories,omitempty" form:"text" doc:"Repositories, or repository@sha256:..., of every container that mounts the volume."`
	NamePatterns      []string `json:"namePatterns,omitempty" form:"podName" doc:"Names of pods, or prefixes and a final *."`
}

// ParseGrants reads a YAML list of grants strictly.
func ParseGrants(text []byte) ([]Grant, error) {
	var grants []Grant
	if _, err := readYAML("", text, &grants); err != nil {
		return nil, err
	}
	return grants, nil
}

// IndexGrants checks grants and files each under every key that a decision looks
// up. labelKeys are the namespace labels that grants may select by.
func IndexGrants(grants []Grant, labelKeys []string) (policies.GrantIndex, error) {
	var c collector
	index := c.indexGrants(entriesOf(grants), labelKeys)
	if err := c.errs.Err(); err != nil {
		return nil, err
	}
	return index, nil
}

func (c *collector) indexGrants(entries []entry[Grant], labelKeys []string) policies.GrantIndex {
	index := policies.GrantIndex{}
	seen, f := map[string]policies.Place{}, forms{}
	left := maxRecords
	for _, e := range entries {
		g := e.value
		add := c.reporter("grant", g.ID, e.where)
		c.unique(seen, g.ID, e.where, add)
		before := len(c.errs)
		g.check(f, labelKeys, add)
		if left = g.take(left, add); len(c.errs) > before {
			continue
		}
		record := g.record()
		for _, subject := range g.subjectKeys() {
			if index[subject] == nil {
				index[subject] = map[string][]policies.GrantRecord{}
			}
			for _, key := range g.secretKeys() {
				index[subject][key] = append(index[subject][key], record)
			}
		}
	}
	// One order, whatever files the grants came from: the digest covers it.
	for _, bySecret := range index {
		for _, records := range bySecret {
			slices.SortFunc(records, func(a, b policies.GrantRecord) int { return strings.Compare(a.ID, b.ID) })
		}
	}
	return index
}

// maxRecords is more than the largest index that an archive may hold: the shortest
// record with its key has more than 64 bytes.
const maxRecords = maxBytes / 64

// take returns how many records are left after those of a grant. It has one for
// each namespace with each account with each secret, so that a few kilobytes could
// stand for more than memory holds: they are counted before they are made.
func (g Grant) take(left int, add report) int {
	factors := []int{max(1, len(g.Namespaces)), max(1, len(g.ServiceAccounts)), max(1, len(g.Secrets))}
	if n := left / factors[0] / factors[1] / factors[2]; n == 0 {
		add("", fmt.Sprintf("more than %d entries of the index with the grants before it, each namespace with each account and each secret", maxRecords),
			"use prefixes in place of lists of secrets, or select namespaces by label")
		return left
	}
	return left - factors[0]*factors[1]*factors[2]
}

// record returns what the library reads of a grant that was checked.
func (g Grant) record() policies.GrantRecord {
	// The form of the date was checked.
	end, _ := policies.EndOfDate(g.Expiry)
	record := policies.GrantRecord{
		ID: g.ID, Owner: g.Owner, NotAfterNS: end.UnixNano(), Provider: g.Provider,
		NamespaceLabels: g.NamespaceSelector, Scoping: maps.Clone(g.Scoping), Audiences: g.Audiences,
		OwnerUID: g.OwnerUID, SyncTargets: g.SyncTargets, ImageSigners: g.ImageSigners,
	}
	if record.Scoping == nil {
		record.Scoping = map[string]string{}
	}
	if g.Pods != nil {
		record.Pods = &policies.PodNarrowing{
			OwnerKinds: g.Pods.OwnerKinds, OwnerNames: g.Pods.OwnerNames,
			ImageRepositories: g.Pods.ImageRepositories, NamePatterns: g.Pods.NamePatterns,
		}
	}
	if g.MaxFileMode != nil {
		// So was the form of the mode.
		mode, _ := strconv.ParseUint(*g.MaxFileMode, 8, 32)
		record.MaxFileMode = new(uint32(mode))
	}
	return record
}

// check reports everything that is wrong with a grant.
func (g Grant) check(f forms, labelKeys []string, add report) {
	f.check(reflect.ValueOf(g), "", add)
	if (len(g.Namespaces) == 0) == (len(g.NamespaceSelector) == 0) {
		add("", "namespaces or namespaceSelector: exactly one of them is needed", "name namespaces, or select them by labels that the configuration trusts")
	}
	for _, key := range slices.Sorted(maps.Keys(g.NamespaceSelector)) {
		if !slices.Contains(labelKeys, key) {
			add("namespaceSelector."+key, fmt.Sprintf("label %q is not in namespace_label_keys of portcullis/config", clip(key)), "add it only if namespace owners cannot set it")
		}
	}
	if len(g.ServiceAccounts) > 1 {
		if i := slices.Index(g.ServiceAccounts, "*"); i >= 0 {
			add(fmt.Sprintf("serviceAccounts[%d]", i), `"*" stands beside names`, `use ["*"] alone, or names`)
		}
	}
	g.checkSecrets(add)
	if g.Pods != nil && reflect.ValueOf(*g.Pods).IsZero() {
		add("pods", "is empty, so it narrows nothing", "leave it out, or give at least one of its lists")
	}
}

func (g Grant) checkSecrets(add report) {
	for i, pattern := range g.Secrets {
		at, key := fmt.Sprintf("secrets[%d]", i), secretKey(pattern)
		switch {
		case strings.Contains(key, "*") || !policies.ValidSecretKey(key) || strings.HasSuffix(pattern, "/") || strings.HasSuffix(pattern, "#"):
			add(at, fmt.Sprintf("%q is not a secret id", clip(pattern)), secretHint)
		case !strings.HasPrefix(key, "unparsed:") && !strings.HasPrefix(key, g.Provider+"://"):
			add(at, fmt.Sprintf("%q is not of provider %q", clip(pattern), clip(g.Provider)), "write a grant for each provider")
		}
	}
}

// subjectKeys returns where the grant is filed. A selector is filed under the
// first of its labels; the library checks the others.
func (g Grant) subjectKeys() []string {
	scopes := g.Namespaces
	if len(g.NamespaceSelector) > 0 {
		key := slices.Sorted(maps.Keys(g.NamespaceSelector))[0]
		scopes = []string{"label:" + key + "=" + g.NamespaceSelector[key]}
	}
	var keys []string
	for _, scope := range scopes {
		for _, sa := range g.ServiceAccounts {
			keys = append(keys, scope+"/"+sa)
		}
	}
	return unique(keys)
}

func (g Grant) secretKeys() []string {
	var keys []string
	for _, pattern := range g.Secrets {
		keys = append(keys, secretKey(pattern))
	}
	return unique(keys)
}

// secretKey turns "a/*" into "a/" and "a#*" into "a#".
func secretKey(pattern string) string {
	if strings.HasSuffix(pattern, "/*") || strings.HasSuffix(pattern, "#*") {
		return strings.TrimSuffix(pattern, "*")
	}
	return pattern
}

func unique(keys []string) []string {
	slices.Sort(keys)
	return slices.Compact(keys)
}
