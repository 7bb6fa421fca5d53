package explain

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/portcullis-csi/portcullis/policies"
)

const (
	maxNearest = 3
	// maxLacks: a grant that lacks more is a grant for something else.
	maxLacks = 2
	// maxNamed bounds how many names one text lists.
	maxNamed = 4
)

// Near is a grant that does not serve a secret but nearly does.
type Near struct {
	ID    string   `json:"id"`
	Owner string   `json:"owner"`
	Lacks []string `json:"lacks"` // each completes "the grant ..."
}

type candidate struct {
	Near
	score int
}

// Nearest returns the grants that come closest to serving a request, with what
// each lacks, the closest first.
func (g *Grants) Nearest(in policies.Input, r policies.Request) []Near {
	var found []candidate
	a := ask(r.Secret)
	for _, k := range g.ordered {
		distance, reason, near := k.distance(a)
		if !near {
			continue
		}
		c := candidate{Near: Near{ID: k.ID, Owner: k.Owner}, score: distance}
		if reason != "" {
			c.Lacks = append(c.Lacks, reason)
		}
		c.Lacks = append(c.Lacks, g.subjectLacks(k, in.Subject)...)
		c.Lacks = append(c.Lacks, g.conditionLacks(k, in, r)...)
		if n := len(c.Lacks); n == 0 || n > maxLacks {
			continue
		}
		c.score += 10 * len(c.Lacks)
		found = append(found, c)
	}
	slices.SortStableFunc(found, func(a, b candidate) int { return cmp.Compare(a.score, b.score) })
	nearest := make([]Near, 0, maxNearest)
	for _, c := range found[:min(len(found), maxNearest)] {
		nearest = append(nearest, c.Near)
	}
	return nearest
}

// subjectLacks says why the grant is not for this service account.
func (g *Grants) subjectLacks(k *granted, s policies.Subject) []string {
	account := func(key subjectKey) bool { return key.account == s.ServiceAccount || key.account == anyAccount }
	inScope, isAccount := false, false
	for _, key := range k.subjects {
		scope := g.fits(key.scope, s)
		if scope && account(key) {
			return nil
		}
		inScope, isAccount = inScope || scope, isAccount || account(key)
	}
	var lacks []string
	if !inScope {
		lacks = append(lacks, "is for "+scopes(k.subjects)+", not for namespace "+s.Namespace)
	}
	if inScope || !isAccount {
		lacks = append(lacks, "is for service account "+names(accounts(k.subjects))+", not for "+s.ServiceAccount)
	}
	return lacks
}

func scopes(keys []subjectKey) string {
	var namespaces []string
	for _, k := range keys {
		if label, ok := strings.CutPrefix(k.scope, labelScope); ok {
			return "namespaces with the label " + label
		}
		namespaces = append(namespaces, k.scope)
	}
	return "namespace " + names(namespaces)
}

func accounts(keys []subjectKey) []string {
	var all []string
	for _, k := range keys {
		all = append(all, k.account)
	}
	return all
}

// names lists a few of many names and counts the others.
func names(all []string) string {
	all = slices.Clone(all)
	slices.Sort(all)
	all = slices.Compact(all)
	if len(all) <= maxNamed {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:maxNamed], ", "), len(all)-maxNamed)
}

// conditionLacks says which of the grant's conditions do not hold: the same that
// the library asks for, in its order.
func (g *Grants) conditionLacks(k *granted, in policies.Input, r policies.Request) []string {
	var lacks []string
	add := func(lack bool, format string, args ...any) {
		if lack {
			lacks = append(lacks, fmt.Sprintf(format, args...))
		}
	}
	add(in.NowNS >= k.NotAfterNS, "has expired")
	add(k.Provider != in.SPC.Provider, "is for provider %s, not for %s", k.Provider, in.SPC.Provider)
	for _, key := range slices.Sorted(maps.Keys(k.NamespaceLabels)) {
		scope := labelScope + key + "=" + k.NamespaceLabels[key]
		if slices.ContainsFunc(k.subjects, func(s subjectKey) bool { return s.scope == scope }) {
			continue // told as the subject
		}
		trusted := slices.Contains(g.labelKeys, key)
		add(!trusted || in.Subject.NamespaceLabels[key] != k.NamespaceLabels[key], "wants the label %s=%s on the namespace", key, k.NamespaceLabels[key])
	}
	if k.Pods != nil {
		lacks = append(lacks, podLacks(*k.Pods, in)...)
	}
	add(len(k.ImageSigners) > 0 && !signed(in, k.ImageSigners), "wants images signed by %s, and no signature is verified", names(k.ImageSigners))
	if differs := scopingDiffers(k.Scoping, in.SPC.Scoping); len(differs) > 0 {
		add(true, "has other scoping parameters: %s", strings.Join(differs, "; "))
	}
	if r.UID != nil && !k.ownerFits(r) {
		if k.OwnerUID == nil {
			add(true, "names no ownerUID, and file %s wants user %d", r.File, *r.UID)
		} else {
			add(true, "has ownerUID %d, and file %s wants user %d", *k.OwnerUID, r.File, *r.UID)
		}
	}
	return lacks
}

func podLacks(p policies.PodNarrowing, in policies.Input) []string {
	var owner policies.Owner
	if in.Pod.Owner != nil {
		owner = *in.Pod.Owner
	}
	var lacks []string
	if len(p.OwnerKinds) > 0 && !slices.Contains(p.OwnerKinds, owner.Kind) {
		lacks = append(lacks, fmt.Sprintf("is for pods of a %s, not of %s", names(p.OwnerKinds), orNobody(owner.Kind)))
	}
	if len(p.OwnerNames) > 0 && !slices.Contains(p.OwnerNames, owner.Name) {
		lacks = append(lacks, fmt.Sprintf("is for pods that %s owns, not %s", names(p.OwnerNames), orNobody(owner.Name)))
	}
	if len(p.NamePatterns) > 0 && !slices.ContainsFunc(p.NamePatterns, func(pattern string) bool { return matches(pattern, in.Subject.PodName) }) {
		lacks = append(lacks, fmt.Sprintf("is for pods named %s, not %s", names(p.NamePatterns), in.Subject.PodName))
	}
	if len(p.ImageRepositories) > 0 {
		if image, ok := foreignImage(in.Pod.Containers, p.ImageRepositories); ok {
			lacks = append(lacks, fmt.Sprintf("is for images of %s, not for %s", names(p.ImageRepositories), image))
		}
	}
	return lacks
}

func orNobody(name string) string {
	if name == "" {
		return "nobody"
	}
	return name
}

func matches(pattern, name string) bool {
	prefix, open := strings.CutSuffix(pattern, "*")
	return pattern == name || open && strings.HasPrefix(name, prefix)
}

// foreignImage returns the first image of a mounting container that is of no
// listed repository.
func foreignImage(containers []policies.Container, repositories []string) (string, bool) {
	mounting := 0
	for _, c := range containers {
		if !c.MountsVolume {
			continue
		}
		mounting++
		name, digest, pinned := strings.Cut(c.Image, "@")
		at := strings.LastIndex(name, "/")
		tag := strings.Index(name[at+1:], ":")
		if tag >= 0 {
			name = name[:at+1+tag]
		}
		if !slices.Contains(repositories, name) && (!pinned || !slices.Contains(repositories, name+"@"+digest)) {
			return c.Image, true
		}
	}
	return "a pod without a container that mounts the volume", mounting == 0
}

func signed(in policies.Input, signers []string) bool {
	mounting := 0
	for _, c := range in.Pod.Containers {
		if !c.MountsVolume {
			continue
		}
		mounting++
		if c.Signature == nil || !c.Signature.Verified || !slices.ContainsFunc(c.Signature.By, func(by string) bool { return slices.Contains(signers, by) }) {
			return false
		}
	}
	return mounting > 0
}

func scopingDiffers(grant, class map[string]string) []string {
	all := maps.Clone(grant)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, class)
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		g, inGrant := grant[name]
		c, inClass := class[name]
		switch {
		case !inGrant:
			texts = append(texts, fmt.Sprintf("the class sets %s to %q, the grant does not list it", name, c))
		case !inClass:
			texts = append(texts, fmt.Sprintf("the grant lists %s as %q, the class does not set it", name, g))
		case g != c:
			texts = append(texts, fmt.Sprintf("%s is %q in the class, %q in the grant", name, c, g))
		}
	}
	return texts
}
