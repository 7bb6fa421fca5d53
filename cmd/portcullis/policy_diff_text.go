package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/portcullis-csi/portcullis/policies/diff"
	"github.com/portcullis-csi/portcullis/policies/explain"
)

func printDiff(out io.Writer, r *diffReport) {
	for _, list := range [][]diff.Change{r.Flipped, r.Changed} {
		for i := range list {
			var b strings.Builder
			writeChange(&b, &list[i])
			_, _ = io.WriteString(out, visible(b.String()))
		}
	}
	for _, n := range r.NotCompared {
		text := fmt.Sprintf("%s %s/%s, volume %s: %s", n.Workload.Kind, n.Workload.Namespace, n.Workload.Name, n.Volume, n.Problem.Field+" "+n.Problem.Text)
		_, _ = io.WriteString(out, "not compared  "+visible(joined(text))+"\n")
	}
	var b strings.Builder
	writeSummary(&b, r)
	_, _ = io.WriteString(out, visible(b.String()))
}

func writeChange(b *strings.Builder, c *diff.Change) {
	what := "changes"
	if c.Flips() {
		what = shortEffect(c.From) + " -> " + shortEffect(c.To)
	}
	fmt.Fprintf(b, "%s  %s %s/%s, volume %s, class %s", what, joined(c.Workload.Kind), c.Workload.Namespace, joined(c.Workload.Name), joined(c.Volume), joined(c.Class))
	if c.Count > 1 {
		fmt.Fprintf(b, " (%d decisions)", c.Count)
	}
	b.WriteByte('\n')
	if c.Undecided != "" {
		fmt.Fprintf(b, "  no verdict: %s\n", c.Undecided)
	}
	for _, part := range []struct {
		name string
		ids  []string
	}{
		{"now refused by", unexplained(c)}, {"no longer refused by", c.RulesGone}, {"new warnings", c.WarningsAdded}, {"warnings gone", c.WarningsGone},
		{"grants that serve now", grantTexts(c.GrantsAdded)}, {"grants that serve no longer", grantTexts(c.GrantsGone)},
	} {
		if len(part.ids) > 0 {
			fmt.Fprintf(b, "  %s: %s\n", part.name, joined(strings.Join(part.ids, ", ")))
		}
	}
	writeFindings(b, c.Findings)
	if c.Obligations != nil {
		b.WriteString("  obligations differ; --output json shows both\n")
	}
	if len(c.Owners) > 0 {
		fmt.Fprintf(b, "  call: %s\n", joined(strings.Join(c.Owners, ", ")))
	}
}

// unexplained are new rules that no finding below shows in words.
func unexplained(c *diff.Change) []string {
	var ids []string
	for _, id := range c.RulesAdded {
		shown := false
		for _, f := range c.Findings {
			shown = shown || f.ID == id
		}
		if !shown {
			ids = append(ids, id)
		}
	}
	return ids
}

func grantTexts(grants []explain.GrantRef) []string {
	var texts []string
	for _, g := range grants {
		texts = append(texts, fmt.Sprintf("%s of %s", g.ID, g.Owner))
	}
	return texts
}

func shortEffect(e explain.Effect) string {
	switch e {
	case explain.Allow, explain.Deny:
		return string(e)
	case explain.AllowedMonitored:
		return "monitored"
	default:
		return "undecided"
	}
}

func writeSummary(b *strings.Builder, r *diffReport) {
	fmt.Fprintf(b, "%d decisions compared on %d inputs: %d flip, %d change otherwise\n", r.Decisions, r.Cases, r.Flips, r.Changes)
	for _, o := range r.Owners {
		owner := o.Owner
		if owner == "" {
			owner = "(no grant concerned)"
		}
		fmt.Fprintf(b, "  %d of %s\n", o.Flips, joined(owner))
	}
	for _, n := range []struct {
		count int64
		text  string
	}{
		{r.Undecided, "that neither bundle decides"}, {r.Unlisted, "counted but not listed: too many different ones"},
		{r.InputGone, "not compared: their input is gone"}, {r.NotComparedN, "volumes not compared: they have no input"},
	} {
		if n.count > 0 {
			fmt.Fprintf(b, "%d %s\n", n.count, n.text)
		}
	}
}
