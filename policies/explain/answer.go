package explain

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/kube/workload"
)

// Effect is the outcome for one volume, in the words of the audit log.
type Effect = policies.Effect

// The effects. The zero value is none of them.
const (
	Allow            = policies.EffectAllow
	AllowedMonitored = policies.EffectAllowedMonitored
	Deny             = policies.EffectDeny
	Undecided        = policies.EffectUndecided
)

// EffectOf returns the effect of a decision.
func EffectOf(d policies.Decision) Effect { return d.Effect() }

// Answer is what is known about one volume. Its JSON is stable: fields are added
// and keep their meaning.
type Answer struct {
	Workload       workload.Workload  `json:"workload"`
	ServiceAccount string             `json:"serviceAccount,omitempty"`
	Volume         string             `json:"volume"`
	Class          string             `json:"class,omitempty"`
	Provider       string             `json:"provider,omitempty"`
	Effect         Effect             `json:"effect"`
	DecisionID     string             `json:"decisionId,omitempty"`
	Problem        *Problem           `json:"problem,omitempty"` // of an effect error
	Secrets        []Secret           `json:"secrets"`
	Deny           []policies.Finding `json:"deny"`
	Warn           []policies.Finding `json:"warn"`
	Grants         []GrantRef         `json:"grants"` // that serve the secrets
	Waivers        []string           `json:"waivers"`
	Overrides      []string           `json:"overrides"` // parameters that volumeAttributes change
	Delivery       *Delivery          `json:"delivery,omitempty"`
	Assumed        []string           `json:"assumed"`
	// SuggestedGrants would allow what lacks a grant: YAML without owners.
	SuggestedGrants string `json:"suggestedGrants,omitempty"`
}

// Problem is why there is no verdict.
type Problem struct {
	Reason string `json:"reason"` // NotFound, InvalidManifest, Unavailable, or why the engine has none
	Field  string `json:"field,omitempty"`
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"`
}

// Secret is one secret that the volume asks for.
type Secret struct {
	Secret     string   `json:"secret"`
	File       string   `json:"file,omitempty"`
	Mode       string   `json:"mode,omitempty"` // of the file, where the volume is allowed: "0440"
	OwnerUID   *int64   `json:"ownerUID,omitempty"`
	ParseError string   `json:"parseError,omitempty"`
	Grants     []string `json:"grants"`  // ids of those that serve it
	Nearest    []Near   `json:"nearest"` // where none does
}

// GrantRef names a grant and who answers for it.
type GrantRef = policies.GrantRef

// Delivery is under which conditions an allowed volume is delivered.
type Delivery struct {
	Group       *int64               `json:"group,omitempty"` // that may read the files
	Ceiling     string               `json:"ceiling"`         // mode that no file exceeds
	Obligations policies.Obligations `json:"obligations"`
}

// Explainer explains decisions of one bundle. It is safe for concurrent use.
type Explainer struct {
	engine *policies.Engine
	grants *Grants
	expiry string
}

// New returns an Explainer for an engine and the bundle that it was compiled of.
// Suggested grants end ninety days after now.
func New(e *policies.Engine, b policies.Bundle, now time.Time) (*Explainer, error) {
	contents, err := b.Contents()
	if err != nil {
		return nil, err
	}
	return &Explainer{engine: e, grants: NewGrants(contents), expiry: now.UTC().AddDate(0, 0, suggestedDays).Format(time.DateOnly)}, nil
}

func (x *Explainer) fill(a *Answer, d policies.Decision) {
	in := d.Input()
	a.Effect, a.DecisionID, a.Provider = EffectOf(d), d.ID, in.SPC.Provider
	a.ServiceAccount = in.Subject.ServiceAccount
	a.Deny, a.Warn = list(d.Deny), list(d.Warn)
	a.Waivers, a.Overrides = list(d.Waivers), list(in.Volume.Overrides)
	for _, id := range d.Grants {
		a.Grants = append(a.Grants, GrantRef{ID: id, Owner: x.grants.Owner(id)})
	}
	grant, err := d.Grant()
	if err == nil {
		a.Delivery = &Delivery{Ceiling: octal(grant.Ceiling()), Obligations: grant.Obligations()}
		if gid, ok := grant.FSGroup(); ok {
			a.Delivery.Group = &gid
		}
	}
	for _, r := range in.Requests {
		s := Secret{Secret: r.Secret, File: r.File, OwnerUID: r.UID, ParseError: r.ParseError, Nearest: []Near{}}
		if err == nil && r.File != "" {
			mode, _ := grant.FileMode(r, 0)
			s.Mode = octal(mode)
		}
		s.Grants = list(x.grants.serving(d, r))
		if len(s.Grants) == 0 {
			s.Nearest = list(x.grants.Nearest(in, r))
		}
		a.Secrets = append(a.Secrets, s)
	}
	a.SuggestedGrants = x.suggest(d)
}

func octal(m fs.FileMode) string { return fmt.Sprintf("%#04o", uint32(m.Perm())) }

// list is never null in JSON.
func list[T any](items []T) []T { return append([]T{}, items...) }

// Counts are how many volumes there are of each effect.
type Counts map[Effect]int

// Count counts answers.
func Count(answers []Answer) Counts {
	c := Counts{Allow: 0, AllowedMonitored: 0, Deny: 0, Undecided: 0}
	for _, a := range answers {
		c[a.Effect]++
	}
	return c
}

// AllAllowed reports whether no volume is denied or undecided.
func (c Counts) AllAllowed() bool {
	for effect := range maps.Keys(c) {
		if !slices.Contains([]Effect{Allow, AllowedMonitored}, effect) && c[effect] > 0 {
			return false
		}
	}
	return true
}
