package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/portcullis-csi/portcullis/policies/shadow"
)

func printShadow(out io.Writer, r *shadow.Report) {
	for i := range r.Flipped {
		var b strings.Builder
		writeGroup(&b, &r.Flipped[i])
		_, _ = io.WriteString(out, visible(b.String()))
	}
	var b strings.Builder
	writeSides(&b, r)
	writeShadowCounts(&b, r)
	_, _ = io.WriteString(out, visible(b.String()))
}

// kindWord words a kind of flip for people.
func kindWord(k shadow.Kind) string {
	switch k {
	case shadow.Breaks:
		return "would break"
	case shadow.Opens:
		return "would open"
	case shadow.Monitors:
		return "would change monitoring"
	default:
		return "would not decide"
	}
}

func writeGroup(b *strings.Builder, g *shadow.Group) {
	what := kindWord(g.Kind)
	if g.Kind == shadow.Undecided {
		what = "has no verdict"
	}
	fmt.Fprintf(b, "%s  ", what)
	writeChange(b, &g.Change)
	fmt.Fprintf(b, "  volumes: %d, last seen %s\n", g.Volumes, g.Last.UTC().Format(time.RFC3339))
}

func writeSides(b *strings.Builder, r *shadow.Report) {
	for _, side := range []struct {
		name   string
		bundle shadow.Bundle
	}{{"active", r.Active}, {"candidate", r.Candidate}} {
		if side.bundle.Digest == "" {
			fmt.Fprintf(b, "%-10s none\n", side.name)
			continue
		}
		fmt.Fprintf(b, "%-10s serial %d, %s", side.name, side.bundle.Serial, side.bundle.Digest)
		if !side.bundle.Signed {
			b.WriteString(", not signed")
		}
		b.WriteByte('\n')
	}
	if r.Problem != "" {
		fmt.Fprintf(b, "problem    %s\n", joined(r.Problem))
	}
}

func writeShadowCounts(b *strings.Builder, r *shadow.Report) {
	least := ""
	if r.AtLeast {
		least = "at least "
	}
	fmt.Fprintf(b, "%d decisions compared from %s to %s: %s%d volumes of %s%d workloads\n", r.Compared,
		r.Since.UTC().Format(time.RFC3339), r.Until.UTC().Format(time.RFC3339), least, r.Volumes, least, r.Workloads)
	if r.Live != nil {
		fmt.Fprintf(b, "%d of %d volumes that are mounted now were compared\n", r.Live.Compared, r.Live.Volumes)
		for _, missing := range r.Live.Missing {
			fmt.Fprintf(b, "  not yet: %s\n", joined(missing))
		}
	}
	fmt.Fprintf(b, "%d flip, %d change otherwise\n", r.Total(), r.Changes)
	for _, k := range []shadow.Kind{shadow.Opens, shadow.Breaks, shadow.Undecided, shadow.Monitors} {
		if n := r.Flips[k]; n > 0 {
			fmt.Fprintf(b, "  %d %s\n", n, kindWord(k))
		}
	}
	writeNames(b, "by rule", r.Rules)
	writeNames(b, "by owner", r.Owners)
	writeNamespaces(b, r)
	for _, n := range []struct {
		count int64
		text  string
	}{
		{r.Undecided, "that neither bundle decides"}, {r.Panics, "whose evaluation by the candidate panicked: see the plugin's log"},
		{r.Unlisted, "counted but not listed: too many different ones"}, {r.Queued, "wait to be compared"},
		{r.Dropped.Full + r.Dropped.Share, "not compared since the start of the plugin: more than the candidate has time for"},
		{r.Dropped.Superseded, "not compared since the start of the plugin: a bundle changed before their turn"},
	} {
		if n.count > 0 {
			fmt.Fprintf(b, "%d %s\n", n.count, n.text)
		}
	}
}

// maxShownNames bounds what a line of names shows; --output json has all.
const maxShownNames = 20

func writeNames(b *strings.Builder, what string, counts []shadow.Count) {
	if len(counts) == 0 {
		return
	}
	texts := []string{}
	for i, c := range counts {
		if i == maxShownNames {
			texts = append(texts, fmt.Sprintf("and %d more", len(counts)-maxShownNames))
			break
		}
		name := c.Name
		if name == "" {
			name = "(no grant concerned)"
		}
		texts = append(texts, fmt.Sprintf("%s %d", name, c.Decisions))
	}
	fmt.Fprintf(b, "  %s: %s\n", what, joined(strings.Join(texts, ", ")))
}

func writeNamespaces(b *strings.Builder, r *shadow.Report) {
	counts := []shadow.Count{}
	for _, n := range r.Namespaces {
		c := shadow.Count{Name: n.Namespace}
		if c.Name == "" {
			c.Name = "(others)"
		}
		for _, flips := range n.Flips {
			c.Decisions += flips
		}
		counts = append(counts, c)
	}
	writeNames(b, "by namespace", counts)
}
