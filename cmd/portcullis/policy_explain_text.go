package main

import (
	"fmt"
	"strings"

	"github.com/portcullis-csi/portcullis/policies/explain"
)

// writeAnswer tells a developer what to change, the most important first.
func writeAnswer(b *strings.Builder, a *explain.Answer) {
	fmt.Fprintf(b, "%s  %s %s/%s, volume %s", verdictWord(a.Effect), a.Workload.Kind, a.Workload.Namespace, a.Workload.Name, joined(a.Volume))
	if a.Class != "" {
		fmt.Fprintf(b, ", class %s", a.Class)
	}
	b.WriteByte('\n')
	if p := a.Problem; p != nil {
		fmt.Fprintf(b, "  %s: %s\n", p.Reason, joined(strings.TrimSpace(p.Field+" "+p.Text)))
		if p.Remedy != "" {
			fmt.Fprintf(b, "         change: %s\n", joined(p.Remedy))
		}
	}
	writeFindings(b, a.Deny)
	writeFindings(b, a.Warn)
	near := map[string]bool{}
	for i := range a.Secrets {
		writeSecret(b, a, &a.Secrets[i])
		writeNear(b, near, a.Secrets[i].Nearest)
	}
	writeDelivery(b, a)
	if len(a.Overrides) > 0 {
		fmt.Fprintf(b, "  volumeAttributes of the pod change: %s\n", joined(strings.Join(a.Overrides, ", ")))
	}
	for _, text := range a.Assumed {
		fmt.Fprintf(b, "  assumed: %s\n", joined(text))
	}
	if a.SuggestedGrants != "" {
		b.WriteString("  to ask the security team for, with an owner:\n")
		for line := range strings.Lines(a.SuggestedGrants) {
			b.WriteString("    " + line)
		}
	}
}

func writeSecret(b *strings.Builder, a *explain.Answer, s *explain.Secret) {
	if len(s.Grants) == 0 {
		return
	}
	by := make([]string, 0, len(s.Grants))
	for _, id := range s.Grants {
		by = append(by, byOwner(a, id))
	}
	file := s.File
	if s.Mode != "" {
		file += " " + s.Mode
	}
	if s.OwnerUID != nil {
		file += fmt.Sprintf(" owned by user %d", *s.OwnerUID)
	}
	fmt.Fprintf(b, "  %s as %s, by %s\n", joined(s.Secret), joined(file), joined(strings.Join(by, ", ")))
}

// writeNear writes each grant that nearly fits once, though several secrets may
// lack it.
func writeNear(b *strings.Builder, seen map[string]bool, nearest []explain.Near) {
	for _, n := range nearest {
		line := fmt.Sprintf("  near   %s of %s %s\n", n.ID, joined(n.Owner), joined(strings.Join(n.Lacks, "; and it ")))
		if !seen[line] {
			seen[line] = true
			b.WriteString(line)
		}
	}
}

func byOwner(a *explain.Answer, id string) string {
	for _, g := range a.Grants {
		if g.ID == id {
			return fmt.Sprintf("grant %s of %s", id, g.Owner)
		}
	}
	return "grant " + id
}

// writeDelivery tells what a pod that is allowed may be surprised by.
func writeDelivery(b *strings.Builder, a *explain.Answer) {
	if a.Delivery == nil {
		return
	}
	var parts []string
	if g := a.Delivery.Group; g != nil {
		parts = append(parts, fmt.Sprintf("files belong to group %d", *g))
	}
	o := a.Delivery.Obligations
	if o.TTLSeconds > 0 {
		parts = append(parts, fmt.Sprintf("fetched again within %d seconds", o.TTLSeconds))
	}
	if len(o.Audiences) > 0 {
		parts = append(parts, "tokens only for "+strings.Join(o.Audiences, ", "))
	}
	if len(parts) > 0 {
		fmt.Fprintf(b, "  %s\n", joined(strings.Join(parts, "; ")))
	}
}
