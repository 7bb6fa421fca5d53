package check

import (
	"cmp"
	"slices"
)

// Severity says whether a bundle with this finding can be in force.
type Severity string

// The severities. A bundle with an error is refused, or decides nothing where the
// finding is met; one with a warning works, and not as its author may believe.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// The ids of findings, which comments may name to silence a warning.
const (
	IDBundle        = "bundle"         // cannot be loaded, or would be refused
	IDFormat        = "format"         // not as opa fmt writes it
	IDMetadata      = "metadata"       // title, description or owner is missing
	IDFindingID     = "finding-id"     // computed, out of range, or used by two checks
	IDFindingFields = "finding-fields" // of which a decision would be an error
	IDRemediation   = "remediation"    // does not say what the developer should do
	IDUntested      = "untested"       // a rule that no test and no fixture names
	IDFixture       = "fixture"        // a fixture or a Rego test that cannot be read
	IDGrantScan     = "grant-scan"     // iterates over all grants or waivers
	IDGrantPattern  = "grant-pattern"  // matches patterns of grants
	IDIndex         = "index"          // built from data at each decision
	IDComputedKey   = "computed-key"   // evaluated again for each key
	IDOptionalNot   = "optional-not"   // != that is undefined where a field is absent
	IDOptionalText  = "optional-text"  // a finding that an absent field silences
	IDOptionalDuty  = "optional-duty"  // an obligation that an absent field drops
	IDEvery         = "every"          // true where there is nothing
	IDBudget        = "budget"         // a decision costs too much
	IDTimeout       = "timeout"        // a decision takes too long
)

// Finding is one thing that an author should look at. Line and Column count from
// 1; zero is unknown.
type Finding struct {
	File     string   `json:"file,omitempty"`
	Line     int      `json:"line,omitempty"`
	Column   int      `json:"column,omitempty"`
	ID       string   `json:"id"`
	Severity Severity `json:"severity"`
	Message  string   `json:"message"`
	Hint     string   `json:"hint,omitempty"`
}

// Report is everything that was found, in the order of the places.
type Report struct {
	Findings []Finding `json:"findings"`
	Errors   int       `json:"errors"`
	Warnings int       `json:"warnings"`
	// Costs are what decisions cost, the largest ratio first; empty where the bundle
	// does not compile.
	Costs []Cost `json:"costs,omitempty"`
	// Profile holds the dearest expressions of the checks, if it was asked for.
	Profile []Hot `json:"profile,omitempty"`
}

func newReport(findings []Finding) Report {
	slices.SortStableFunc(findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.ID, b.ID))
	})
	r := Report{Findings: slices.Compact(findings)}
	for _, f := range r.Findings {
		if f.Severity == Error {
			r.Errors++
		} else {
			r.Warnings++
		}
	}
	return r
}
