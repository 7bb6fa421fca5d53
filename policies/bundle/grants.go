package bundle

import (
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/portcullis-csi/portcullis/policies"
)

// Grant is one grant as its author writes it, in portcullis/grants/*.yaml.
type Grant struct {
	ID     string `json:"id"`
	Owner  string `json:"owner"`  // who answers for it
	Expiry string `json:"expiry"` // RFC 3339 date; valid through that day, UTC
	// Namespaces or NamespaceSelector, not both.
	Namespaces        []string          `json:"namespaces"`
	NamespaceSelector map[string]string `json:"namespaceSelector"`
	ServiceAccounts   []string          `json:"serviceAccounts"` // names, or "*" alone
	Provider          string            `json:"provider"`
	Secrets           []string          `json:"secrets"` // ids, "…/*" or "…#*"
	Scoping           map[string]string `json:"scoping"`
	Audiences         []string          `json:"audiences"`
	MaxFileMode       *string           `json:"maxFileMode"` // "0440"; absent: the ceiling of the volume
	OwnerUID          *int64            `json:"ownerUID"`
	SyncTargets       []string          `json:"syncTargets"`
	ImageSigners      []string          `json:"imageSigners"`
	Pods              *Pods             `json:"pods"`
}

// Pods narrows a grant to some pods of the subject.
type Pods struct {
	OwnerKinds        []string `json:"ownerKinds"`
	OwnerNames        []string `json:"ownerNames"`
	ImageRepositories []string `json:"imageRepositories"`
	NamePatterns      []string `json:"namePatterns"`
}

var (
	namePattern       = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)
	namespacePattern  = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	labelKeyPattern   = regexp.MustCompile(`^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)
	labelValuePattern = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)
	idPattern         = regexp.MustCompile(`^[A-Za-z0-9][-A-Za-z0-9_.]{0,62}$`)
	modePattern       = regexp.MustCompile(`^0[0-7]{3}$`)
	podNamePattern    = regexp.MustCompile(`^[a-z0-9][-a-z0-9.]{0,252}\*?$`)
)

// idHint tells how an id is spelt: any other spelling would never apply.
const idHint = "letters, digits and -._~:=+, stand for themselves, every other character is %%XX in upper case, and no path ends in a slash"

// ParseGrants reads a YAML list of grants strictly.
func ParseGrants(text []byte) ([]Grant, error) {
	var grants []Grant
	if err := decodeYAML(text, &grants); err != nil {
		return nil, err
	}
	return grants, nil
}

// IndexGrants checks grants and files each under every key that a decision looks
// up. labelKeys are the namespace labels that grants may select by.
func IndexGrants(grants []Grant, labelKeys []string) (policies.GrantIndex, error) {
	index := policies.GrantIndex{}
	seen := map[string]bool{}
	for i, g := range grants {
		if seen[g.ID] {
			return nil, fmt.Errorf("grant %q: id is used twice; hint: give every grant an id of its own", g.ID)
		}
		seen[g.ID] = true
		record, err := g.record(labelKeys)
		if err != nil {
			return nil, fmt.Errorf("grant %d (id %q): %w", i+1, g.ID, err)
		}
		for _, subject := range g.subjectKeys() {
			if index[subject] == nil {
				index[subject] = map[string][]policies.GrantRecord{}
			}
			for _, key := range g.secretKeys() {
				index[subject][key] = append(index[subject][key], record)
			}
		}
	}
	return index, nil
}

// record checks a grant and returns what the library reads of it.
func (g Grant) record(labelKeys []string) (policies.GrantRecord, error) {
	for _, check := range []func() error{
		g.checkNames, func() error { return g.checkNamespaces(labelKeys) }, g.checkServiceAccounts, g.checkSecrets, g.checkPods,
	} {
		if err := check(); err != nil {
			return policies.GrantRecord{}, err
		}
	}
	end, err := policies.EndOfDate(g.Expiry)
	if err != nil {
		return policies.GrantRecord{}, fmt.Errorf("expiry: %w; hint: use a date such as 2026-12-31", err)
	}
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
	record.MaxFileMode, err = g.mode()
	return record, err
}

func (g Grant) mode() (*uint32, error) {
	if g.MaxFileMode == nil {
		return nil, nil
	}
	const hint = `hint: use read bits only, in quotes: "0400", "0440" or "0444"`
	text := *g.MaxFileMode
	if !modePattern.MatchString(text) {
		return nil, fmt.Errorf("maxFileMode: %q is not an octal mode; %s", text, hint)
	}
	v, err := strconv.ParseUint(text, 8, 32)
	if m := fs.FileMode(v); err != nil || m == 0 || m&^0o444 != 0 {
		return nil, fmt.Errorf("maxFileMode: %q grants more than reading, or nothing; %s", text, hint)
	}
	return new(uint32(v)), nil
}

func (g Grant) checkNames() error {
	switch {
	case !idPattern.MatchString(g.ID):
		return fmt.Errorf("id: %q is not 1 to 63 letters, digits, dots, _ or -", g.ID)
	case g.Owner == "":
		return fmt.Errorf("owner is missing; hint: name the team that answers for the secret")
	case g.Expiry == "":
		return fmt.Errorf("expiry is missing; hint: add a date such as 2026-12-31")
	case g.Provider == "":
		return fmt.Errorf("provider is missing; hint: name the provider of the SecretProviderClass")
	case g.OwnerUID != nil && (*g.OwnerUID < 0 || *g.OwnerUID >= 1<<32-1):
		return fmt.Errorf("ownerUID: %d is not a user id", *g.OwnerUID)
	}
	for field, list := range map[string][]string{"audiences": g.Audiences, "syncTargets": g.SyncTargets, "imageSigners": g.ImageSigners} {
		if err := checkList(field, list); err != nil {
			return err
		}
	}
	return nil
}

// checkList refuses empty lists: a reader could take one for "none" and another
// for "no restriction".
func checkList(field string, list []string) error {
	if list != nil && len(list) == 0 {
		return fmt.Errorf("%s is empty; hint: leave it out, or name at least one", field)
	}
	if slices.Contains(list, "") {
		return fmt.Errorf("%s holds an empty text", field)
	}
	return nil
}

func (g Grant) checkNamespaces(labelKeys []string) error {
	if (len(g.Namespaces) == 0) == (len(g.NamespaceSelector) == 0) {
		return fmt.Errorf("namespaces or namespaceSelector: exactly one of them is needed")
	}
	for i, ns := range g.Namespaces {
		if !namespacePattern.MatchString(ns) {
			return fmt.Errorf("namespaces[%d]: %q is not a namespace; hint: name each, or use namespaceSelector", i, ns)
		}
	}
	for key, value := range g.NamespaceSelector {
		if !slices.Contains(labelKeys, key) {
			return fmt.Errorf("namespaceSelector: label %q is not in namespace_label_keys of portcullis/config; hint: add it only if namespace owners cannot set it", key)
		}
		if !labelKeyPattern.MatchString(key) || !labelValuePattern.MatchString(value) {
			return fmt.Errorf("namespaceSelector: %q: %q is not a label", key, value)
		}
	}
	return nil
}

func (g Grant) checkServiceAccounts() error {
	if len(g.ServiceAccounts) == 0 {
		return fmt.Errorf(`serviceAccounts is missing; hint: name them, or use ["*"] for all of the namespaces`)
	}
	if slices.Equal(g.ServiceAccounts, []string{"*"}) {
		return nil
	}
	for i, sa := range g.ServiceAccounts {
		if !namePattern.MatchString(sa) {
			return fmt.Errorf(`serviceAccounts[%d]: %q is not a service account; hint: patterns are not supported, only "*" alone`, i, sa)
		}
	}
	return nil
}

func (g Grant) checkSecrets() error {
	if len(g.Secrets) == 0 {
		return fmt.Errorf("secrets is missing; hint: list ids, or prefixes that end in /*")
	}
	for i, pattern := range g.Secrets {
		key := secretKey(pattern)
		if strings.Contains(key, "*") || !policies.ValidSecretKey(key) || strings.HasSuffix(pattern, "/") || strings.HasSuffix(pattern, "#") {
			return fmt.Errorf("secrets[%d]: %q is not a secret id; hint: use <provider>://<backend>/<path>, a prefix that ends in /*, or an id that ends in #*; "+idHint, i, pattern)
		}
		if !strings.HasPrefix(key, "unparsed:") && !strings.HasPrefix(key, g.Provider+"://") {
			return fmt.Errorf("secrets[%d]: %q is not of provider %q", i, pattern, g.Provider)
		}
	}
	return nil
}

func (g Grant) checkPods() error {
	if g.Pods == nil {
		return nil
	}
	lists := map[string][]string{
		"pods.ownerKinds": g.Pods.OwnerKinds, "pods.ownerNames": g.Pods.OwnerNames,
		"pods.imageRepositories": g.Pods.ImageRepositories, "pods.namePatterns": g.Pods.NamePatterns,
	}
	named := 0
	for field, list := range lists {
		if err := checkList(field, list); err != nil {
			return err
		}
		named += len(list)
	}
	if named == 0 {
		return fmt.Errorf("pods is empty, so it narrows nothing; hint: leave it out, or give at least one of its lists")
	}
	for i, p := range g.Pods.NamePatterns {
		if !podNamePattern.MatchString(p) {
			return fmt.Errorf("pods.namePatterns[%d]: %q is not a pod name or a prefix and *", i, p)
		}
	}
	return nil
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
