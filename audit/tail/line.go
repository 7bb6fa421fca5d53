package tail

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/portcullis-csi/portcullis/audit"
)

// The widths of columns. What is longer pushes the rest to the right.
const (
	typeWidth    = 20
	outcomeWidth = 8
	subjectWidth = 30
	maxWord      = 253
	maxListed    = 8
)

// Line words an event for people, in one line without its end. The zone is
// that of times.
func Line(e Entry, zone *time.Location) string {
	place := fmt.Sprintf("at %d/%d", e.At.Epoch, e.At.Index)
	if e.Unreadable {
		return "(not an event that this version can read)  " + place
	}
	ev := e.Event
	columns := fmt.Sprintf("%s  %-*s  %-*s  %-*s", ev.Time.In(zone).Format(time.RFC3339),
		typeWidth, word(string(ev.Type)), outcomeWidth, outcome(ev), subjectWidth, subject(ev))
	return columns + "  " + strings.Join(append(details(ev), place), "  ")
}

// outcome is the word for how it went; of what is only intended nobody knows.
func outcome(e audit.Event) string {
	if e.Stage == audit.StageIntent {
		return string(audit.StageIntent)
	}
	return word(string(e.Outcome))
}

func subject(e audit.Event) string {
	w := e.Workload
	if w == nil || w.Namespace == "" && w.Pod == "" {
		return "-"
	}
	return word(w.Namespace) + "/" + word(w.Pod)
}

// details are what differs from type to type, the gravest first.
func details(e audit.Event) []string {
	var d []string
	add := func(name, value string) {
		if value != "" {
			d = append(d, name+" "+value)
		}
	}
	if e.Severity == audit.SeverityHigh || e.Severity == audit.SeverityCritical {
		d = append(d, string(e.Severity))
	}
	if e.Actor.Unconfirmed {
		d = append(d, "unconfirmed")
	}
	denied, monitored := ruleIDs(e)
	add("rules", denied)
	add("monitored", monitored)
	if denied == "" {
		add("reason", word(string(e.Reason)))
	}
	if e.Workload != nil {
		add("volume", word(e.Workload.Volume))
	}
	add("files", number(int64(len(e.Files))))
	add("count", number(e.Count))
	add("repeated", number(e.Repeated))
	add("bundle", bundle(e))
	if e.Policy != nil {
		add("decision", word(e.Policy.DecisionID))
	}
	return append(d, logState(e.Log)...)
}

// ruleIDs are the rules that denied, and those that would have.
func ruleIDs(e audit.Event) (denied, monitored string) {
	if e.Policy == nil {
		return "", ""
	}
	var deny, would []string
	for _, r := range e.Policy.Rules {
		switch {
		case r.Denies && !r.Waived:
			deny = append(deny, r.ID)
		case r.Monitored:
			would = append(would, r.ID)
		}
	}
	return list(deny), list(would)
}

func list(ids []string) string {
	var words []string
	seen := map[string]bool{}
	for _, id := range ids {
		if !seen[id] {
			seen[id] = true
			words = append(words, word(id))
		}
	}
	if more := len(words) - maxListed; more > 0 {
		words = append(words[:maxListed], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(words, ",")
}

func bundle(e audit.Event) string {
	if e.Change == nil || e.Change.Kind != audit.ChangePolicyBundle {
		return ""
	}
	return fmt.Sprintf("serial %d %s", e.Change.To, word(e.Change.ToDigest))
}

func logState(s *audit.LogState) []string {
	if s == nil {
		return nil
	}
	d := []string{fmt.Sprintf("epoch %d size %d", s.Epoch, s.Size)}
	if s.Lost {
		d = append(d, "LOST")
	}
	if s.Missing > 0 {
		d = append(d, fmt.Sprintf("MISSING %d epochs", s.Missing))
	}
	if s.Key != "" {
		d = append(d, "key "+word(s.Key))
	}
	if s.Unsigned > 0 {
		d = append(d, "unsigned "+strconv.FormatInt(s.Unsigned, 10))
	}
	return d
}

func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// word is text of a log as a terminal may see it: whoever can write the file
// could write escape sequences.
func word(text string) string {
	text = text[:min(len(text), maxWord)]
	for _, r := range text {
		if r <= ' ' || r > '~' {
			return strconv.QuoteToASCII(text)
		}
	}
	return text
}

// Printable returns a leaf whose text beyond printable ASCII is written as JSON
// escapes: the same value to every reader, and the same bytes for every event
// that the recorder made.
func Printable(leaf []byte) []byte {
	clean := true
	for _, b := range leaf {
		clean = clean && b >= ' ' && b <= '~'
	}
	if clean {
		return leaf
	}
	var out []byte
	for _, r := range string(leaf) {
		switch {
		case r < ' ': // JSON has these between its words only
			out = append(out, ' ')
		case r <= '~':
			out = append(out, byte(r))
		case r <= 0xffff:
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			r -= 0x10000
			out = fmt.Appendf(out, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		}
	}
	return out
}
