package check

import (
	"fmt"
	"strings"

	"github.com/portcullis-csi/portcullis/policies/testrun"
)

// Text returns the report for people.
func (r Report) Text() string {
	var b strings.Builder
	for _, f := range r.Findings {
		b.WriteString(f.place())
		fmt.Fprintf(&b, "%s: %s: %s\n", f.Severity, f.ID, testrun.Printable(f.Message))
		if f.Hint != "" {
			fmt.Fprintf(&b, "    hint: %s\n", testrun.Printable(f.Hint))
		}
	}
	if len(r.Costs) > 0 {
		fmt.Fprintf(&b, "beside %d grants, %d inputs cost at most %.2f times what the library alone does (%q)\n",
			syntheticGrants, len(r.Costs), r.Costs[0].Ratio, r.Costs[0].Input)
	}
	for _, h := range r.Profile {
		fmt.Fprintf(&b, "  %8d evaluations  %s:%d: %s\n", h.Evaluations, testrun.Printable(h.File), h.Line, testrun.Printable(h.Text))
	}
	fmt.Fprintf(&b, "%d errors, %d warnings\n", r.Errors, r.Warnings)
	return b.String()
}

func (f Finding) place() string {
	text := testrun.Printable(f.File)
	switch {
	case f.File == "":
		return ""
	case f.Column > 0:
		text += fmt.Sprintf(":%d:%d", f.Line, f.Column)
	case f.Line > 0:
		text += fmt.Sprintf(":%d", f.Line)
	}
	return text + ": "
}
