package policies

import (
	"encoding/json"
	"fmt"
	"time"
)

// config is portcullis/config of a bundle, every key filled, so that the
// library can rely on each of them.
type config struct {
	// RequiredChecks are names of checks that must be in the bundle.
	RequiredChecks []string `json:"required_checks"`
	// Obligations hold for every decision.
	Obligations map[string]any `json:"obligations"`
	// AllowedOverrides are parameters that volumeAttributes may change.
	AllowedOverrides []string `json:"allowed_overrides"`
	// NamespaceLabelKeys are the labels that grants may select namespaces by:
	// only those that nobody but the platform team can set.
	NamespaceLabelKeys []string `json:"namespace_label_keys"`
	Monitor            monitor  `json:"monitor"`
	// MassRevoke lets a node revoke more than a fifth of its volumes at once.
	MassRevoke bool `json:"mass_revoke"`
	// Checks holds settings of the bundle's own checks, by check.
	Checks map[string]any `json:"checks"`
}

// everyRule in a list of rule ids stands for all of them.
const everyRule = "*"

// monitor lets denials through until a date: those of the listed rules, or of
// all. No list is no answer to which, so both have to be said.
type monitor struct {
	Until   string   `json:"until,omitempty"` // RFC 3339 date, that day included
	UntilNS int64    `json:"until_ns"`
	Rules   []string `json:"rules"`
}

// document is the data of a bundle below the key portcullis.
type document struct {
	Config  config `json:"config"`
	Grants  grants `json:"grants"`
	Waivers waived `json:"waivers"`
}

type grants struct {
	BySubject GrantIndex `json:"by_subject"`
}

type waived struct {
	ByFinding WaiverIndex `json:"by_finding"`
}

// readDocument decodes the data of a bundle strictly: a key that nothing reads
// is a rule that its author believes in and nobody enforces.
func readDocument(data map[string]any, now time.Time) (document, error) {
	var outer struct {
		Portcullis document `json:"portcullis"`
	}
	text, err := json.Marshal(data)
	if err != nil {
		return document{}, &BundleError{"data", "is not JSON", "use strings, numbers, booleans, lists and objects"}
	}
	if err := DecodeStrictly(text, &outer); err != nil {
		return document{}, &BundleError{"data", err.Error(), "only portcullis/config, grants and waivers hold data; see docs/POLICIES.md for their keys"}
	}
	doc := outer.Portcullis
	if err := doc.Config.complete(now); err != nil {
		return document{}, err
	}
	if doc.Grants.BySubject == nil {
		doc.Grants.BySubject = GrantIndex{}
	}
	if doc.Waivers.ByFinding == nil {
		doc.Waivers.ByFinding = WaiverIndex{}
	}
	if err := doc.Grants.BySubject.check(); err != nil {
		return document{}, err
	}
	return doc, doc.Waivers.ByFinding.check(now)
}

// complete fills what the author left out and checks the rest.
func (c *config) complete(now time.Time) error {
	c.RequiredChecks = list(c.RequiredChecks)
	c.AllowedOverrides = list(c.AllowedOverrides)
	c.NamespaceLabelKeys = list(c.NamespaceLabelKeys)
	c.Monitor.Rules = list(c.Monitor.Rules)
	if c.Obligations == nil {
		c.Obligations = map[string]any{}
	}
	if c.Checks == nil {
		c.Checks = map[string]any{}
	}
	if _, err := readObligations(c.Obligations); err != nil {
		return &BundleError{"config obligations", err.Error(), "use the obligations of docs/POLICIES.md"}
	}
	return c.Monitor.complete(now)
}

// list returns a copy that is never null, which Rego would not take for a list.
func list(items []string) []string { return append([]string{}, items...) }

func (m *monitor) complete(now time.Time) error {
	switch {
	case m.UntilNS != 0:
		return &BundleError{"config monitor", "until_ns is set", "set until, an RFC 3339 date"}
	case m.Until == "" && len(m.Rules) > 0:
		return &BundleError{"config monitor", "rules without an end", "set until, an RFC 3339 date at most 90 days off"}
	case m.Until == "":
		return nil
	case len(m.Rules) == 0:
		return &BundleError{"config monitor", "rules is missing or empty", `list the ids of rules, or ["*"] for all of them`}
	}
	for _, id := range m.Rules {
		if alone := id == everyRule && len(m.Rules) == 1; !alone && !rulePattern.MatchString(id) {
			return &BundleError{"config monitor", fmt.Sprintf("rules holds %q", id), `list ids such as PR-001, or ["*"] alone for all rules`}
		}
	}
	end, err := EndOfDate(m.Until)
	if err != nil {
		return &BundleError{"config monitor", err.Error(), "set until to an RFC 3339 date such as 2026-12-31"}
	}
	if end.Sub(now) > maxBundleLifetime {
		return &BundleError{"config monitor", "until is more than 90 days off", "choose an earlier end and renew in time"}
	}
	m.UntilNS = end.UnixNano()
	return nil
}

// EndOfDate returns the first instant after a date of RFC 3339, in UTC: what
// expires on a day is valid through that day.
func EndOfDate(date string) (time.Time, error) {
	day, err := time.Parse(time.DateOnly, date)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is not a date", date)
	}
	if day.Year() < 2000 || day.Year() > 2200 {
		return time.Time{}, fmt.Errorf("%q is outside the years 2000 to 2200", date)
	}
	return day.AddDate(0, 0, 1), nil
}
