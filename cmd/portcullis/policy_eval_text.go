package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/eval"
	"github.com/portcullis-csi/portcullis/policies/explain"
)

// verdictWord is an effect as text has it.
func verdictWord(e explain.Effect) string {
	switch e {
	case explain.Allow:
		return "ALLOWED"
	case explain.AllowedMonitored:
		return "ALLOWED (monitored)"
	case explain.Deny:
		return "DENIED"
	default:
		return "UNDECIDED"
	}
}

func printEval(out io.Writer, r evalReport) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, decision %s at %s\n", verdictWord(r.Effect), r.DecisionID, time.Unix(0, r.NowNS).UTC().Format(time.RFC3339))
	if r.Undecided != "" {
		fmt.Fprintf(&b, "  %s: %s\n", r.Undecided, r.Cause)
	}
	writeFindings(&b, r.Deny)
	writeFindings(&b, r.Warn)
	if len(r.Grants) > 0 {
		fmt.Fprintf(&b, "  grants       %s\n", strings.Join(r.Grants, ", "))
	}
	if len(r.Waivers) > 0 {
		fmt.Fprintf(&b, "  waivers      %s\n", strings.Join(r.Waivers, ", "))
	}
	if text, err := json.Marshal(r.Obligations); err == nil {
		fmt.Fprintf(&b, "  obligations  %s\n", text)
	}
	fmt.Fprintf(&b, "  bundle       %s, serial %d\n", r.BundleDigest, r.BundleSerial)
	fmt.Fprintf(&b, "  input        sha256:%s\n", r.InputSHA256)
	if len(r.Trace) > 0 {
		b.WriteString("trace:\n  " + strings.Join(r.Trace, "\n  ") + "\n")
	}
	if r.TraceDropped > 0 {
		fmt.Fprintf(&b, "  and %d more steps that were not kept; --explain with one rule shows fewer\n", r.TraceDropped)
	}
	_, _ = io.WriteString(out, visible(b.String()))
}

// maxPerRule keeps a class with many secrets from burying what to change.
const maxPerRule = 3

// writeFindings writes what refuses, or would, and what to do about it.
func writeFindings(b *strings.Builder, findings []policies.Finding) {
	perRule := map[string]int{}
	for _, f := range findings {
		if perRule[f.ID]++; perRule[f.ID] > maxPerRule {
			continue
		}
		fmt.Fprintf(b, "  %s %s%s: %s\n", f.ID, f.Severity, excuse(f), joined(f.Message))
		if f.Remediation != "" {
			fmt.Fprintf(b, "         change: %s\n", joined(f.Remediation))
		}
	}
	for _, id := range policies.RuleIDs(findings) {
		if more := perRule[id] - maxPerRule; more > 0 {
			fmt.Fprintf(b, "  %s   and %d more of the same; --output json lists all\n", id, more)
		}
	}
}

// excuse says why a finding does not refuse.
func excuse(f policies.Finding) string {
	switch {
	case f.Waived:
		return ", waived"
	case f.Monitored:
		return ", monitored: would be denied"
	default:
		return ""
	}
}

// joined keeps a text from writing lines that look like ours.
func joined(s string) string { return strings.Join(strings.Fields(s), " ") }

func printRecorded(out io.Writer, d eval.Decision) {
	rules := strings.Join(policies.RuleIDs(append(d.Deny, d.Warn...)), ",")
	line := fmt.Sprintf("%s %s %s %s %s\n", time.Unix(0, d.NowNS).UTC().Format(time.RFC3339), joined(d.EventID), verdictWord(d.Effect), d.DecisionID, rules)
	_, _ = io.WriteString(out, visible(line))
}

// printCounts ends an answer about many volumes or decisions.
func printCounts(out io.Writer, c explain.Counts, gone int) {
	fmt.Fprintf(out, "%d allowed, %d monitored, %d denied, %d undecided\n", c[explain.Allow], c[explain.AllowedMonitored], c[explain.Deny], c[explain.Undecided])
	if gone > 0 {
		fmt.Fprintf(out, "%d more whose input is gone\n", gone)
	}
}
