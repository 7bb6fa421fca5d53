package policies

import (
	"encoding/json"
	"fmt"
	"maps"
	"time"
)

// Config is portcullis/config as its author writes it. Every key may be absent.
type Config struct {
	RequiredChecks     []string       `json:"required_checks,omitempty" form:"check" empty:"ok" doc:"Checks that have to be in the bundle; without one of them the bundle is refused."`
	Obligations        *Obligations   `json:"obligations,omitempty" doc:"Obligations of every decision."`
	AllowedOverrides   []string       `json:"allowed_overrides,omitempty" empty:"ok" doc:"Parameters that volumeAttributes of a pod may change."`
	NamespaceLabelKeys []string       `json:"namespace_label_keys,omitempty" form:"labelKey" empty:"ok" doc:"Labels that grants may select namespaces by: only those that nobody but the platform team can set."`
	Monitor            *Monitor       `json:"monitor,omitempty" doc:"Lets denials through until a date. Denials become warnings."`
	MassRevoke         bool           `json:"mass_revoke,omitempty" doc:"Lets a node revoke more than a fifth of its volumes at once."`
	Checks             map[string]any `json:"checks,omitempty" doc:"Settings of the checks of this bundle, by check. What a check reads is up to it."`
}

// Monitor is monitor mode as its author writes it.
type Monitor struct {
	Until string   `json:"until,omitempty" form:"date" need:"set until, an RFC 3339 date at most 90 days off" doc:"Last day of monitor mode, UTC, at most 90 days off."`
	Rules []string `json:"rules,omitempty" form:"monitored" need:"list the ids of rules, or [\"*\"] for all of them" doc:"Ids of rules, or * alone for every rule."`
}

// config is portcullis/config of a bundle, every key filled, so that the
// library can rely on each of them.
type config struct {
	RequiredChecks     []string       `json:"required_checks"`
	Obligations        map[string]any `json:"obligations"`
	AllowedOverrides   []string       `json:"allowed_overrides"`
	NamespaceLabelKeys []string       `json:"namespace_label_keys"`
	Monitor            monitor        `json:"monitor"`
	MassRevoke         bool           `json:"mass_revoke"`
	Checks             map[string]any `json:"checks"`
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
func readDocument(b Bundle, now time.Time) (document, error) {
	var outer struct {
		Portcullis document `json:"portcullis"`
	}
	data, index := withoutIndex(b.Data)
	text, err := json.Marshal(data)
	if err != nil {
		return document{}, &BundleError{"data", "is not JSON", "use strings, numbers, booleans, lists and objects"}
	}
	if err := DecodeStrictly(text, &outer); err != nil {
		return document{}, &BundleError{"data", err.Error(), "only portcullis/config, grants and waivers hold data; see docs/POLICIES.md for their keys"}
	}
	doc := outer.Portcullis
	if index != nil {
		doc.Grants.BySubject = index
	}
	errs := doc.Config.complete(now)
	if doc.Grants.BySubject == nil {
		doc.Grants.BySubject = GrantIndex{}
	}
	if doc.Waivers.ByFinding == nil {
		doc.Waivers.ByFinding = WaiverIndex{}
	}
	if err := doc.Grants.BySubject.check(); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, doc.Waivers.ByFinding.check(now)...)
	return doc, located(errs, b.Places)
}

// withoutIndex takes the index of grants out of the data of a bundle, where it is one
// already: its type holds no key that nothing reads, so that there is nothing to
// decode, and at a hundred thousand grants that would take longer than all the rest.
func withoutIndex(data map[string]any) (map[string]any, GrantIndex) {
	section, _ := data["portcullis"].(map[string]any)
	filed, _ := section["grants"].(map[string]any)
	index, ok := filed["by_subject"].(GrantIndex)
	if !ok {
		return data, nil
	}
	rest, parts, all := maps.Clone(filed), maps.Clone(section), maps.Clone(data)
	delete(rest, "by_subject")
	parts["grants"], all["portcullis"] = rest, parts
	return all, index
}

// complete fills what the author left out and checks the rest.
func (c *config) complete(now time.Time) []*BundleError {
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
	var errs []*BundleError
	if _, err := readObligations(c.Obligations); err != nil {
		errs = append(errs, &BundleError{"config obligations", err.Error(), "use the obligations of docs/POLICIES.md"})
	}
	return append(errs, c.Monitor.complete(now)...)
}

// list returns a copy that is never null, which Rego would not take for a list.
func list(items []string) []string { return append([]string{}, items...) }

func (m *monitor) complete(now time.Time) []*BundleError {
	switch {
	case m.UntilNS != 0:
		return []*BundleError{{"config monitor.until_ns", "until_ns is set", "set until, an RFC 3339 date"}}
	case m.Until == "" && len(m.Rules) > 0:
		return []*BundleError{{"config monitor", "rules without an end", "set until, an RFC 3339 date at most 90 days off"}}
	case m.Until == "":
		return nil
	}
	errs := m.checkRules()
	end, err := EndOfDate(m.Until)
	switch {
	case err != nil:
		errs = append(errs, &BundleError{"config monitor.until", err.Error(), "set until to an RFC 3339 date such as 2026-12-31"})
	case end.Sub(now) > maxBundleLifetime:
		errs = append(errs, &BundleError{"config monitor.until", "until is more than 90 days off", "choose an earlier end and renew in time"})
	default:
		m.UntilNS = end.UnixNano()
	}
	return errs
}

func (m *monitor) checkRules() []*BundleError {
	if len(m.Rules) == 0 {
		return []*BundleError{{"config monitor", "rules is missing or empty", `list the ids of rules, or ["*"] for all of them`}}
	}
	var errs []*BundleError
	for i, id := range m.Rules {
		if alone := id == everyRule && len(m.Rules) == 1; !alone && !rulePattern.MatchString(id) {
			errs = append(errs, &BundleError{fmt.Sprintf("config monitor.rules[%d]", i), fmt.Sprintf("rules holds %q", id), `list ids such as PR-001, or ["*"] alone for all rules`})
		}
	}
	return errs
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
