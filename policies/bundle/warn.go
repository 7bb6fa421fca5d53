package bundle

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
)

// Warning is what an author might not expect of a bundle that is valid.
type Warning struct {
	ID      string `json:"id"`      // a word for machines: grant-expires
	Subject string `json:"subject"` // "grant G-1", "config monitor"
	Message string `json:"message"`
}

// soon is how long before an end its renewal is due.
const soon = 14 * 24 * time.Hour

// Warnings returns what the author of a bundle should look at before it is
// published at a time, in a constant order.
func Warnings(b policies.Bundle, now time.Time) []Warning {
	grants := Grants(b)
	warnings := configWarnings(b, now)
	if len(grants) == 0 {
		warnings = append(warnings, Warning{"no-grants", "grants", "the bundle grants nothing: every mount will be denied"})
	}
	wider, notAfter := covering(b), b.Manifest.NotAfter
	for _, g := range grants {
		subject := "grant " + g.ID
		if len(g.ImageSigners) > 0 {
			warnings = append(warnings, Warning{"image-signers", subject, fmt.Sprintf("this version verifies no image signatures: grant %s is never live", g.ID)})
		}
		if text := ending(g.Expiry, notAfter, now); text != "" {
			warnings = append(warnings, Warning{"grant-expires", subject, subject + " " + text})
		}
		if by := wider(g); by != "" {
			warnings = append(warnings, Warning{"grant-shadowed", subject, fmt.Sprintf("grant %s allows nothing that grant %s does not", g.ID, by)})
		}
	}
	for _, w := range Waivers(b) {
		if text := ending(w.Expiry, notAfter, now); text != "" {
			warnings = append(warnings, Warning{"waiver-expires", "waiver " + w.ID, "waiver " + w.ID + " " + text})
		}
	}
	return warnings
}

// ending says that a grant or a waiver ends before somebody looks again, "" if
// it does not.
func ending(expiry string, notAfter, now time.Time) string {
	end, err := policies.EndOfDate(expiry)
	switch {
	case err != nil:
		return ""
	case !end.After(now):
		return fmt.Sprintf("has expired on %s and does nothing", expiry)
	case end.Sub(now) <= soon:
		return fmt.Sprintf("expires on %s, within 14 days", expiry)
	case end.Before(notAfter):
		return fmt.Sprintf("expires on %s, before the bundle does", expiry)
	}
	return ""
}

func configWarnings(b policies.Bundle, now time.Time) []Warning {
	data, _ := b.Data["portcullis"].(map[string]any)
	config, _ := data["config"].(map[string]any)
	var warnings []Warning
	if monitor, ok := config["monitor"].(map[string]any); ok {
		until, _ := monitor["until"].(string)
		end, err := policies.EndOfDate(until)
		switch {
		case err != nil:
		case !end.After(now):
			warnings = append(warnings, Warning{"monitor", "config monitor", fmt.Sprintf("monitor mode has ended on %s and does nothing", until)})
		default:
			warnings = append(warnings, Warning{"monitor", "config monitor", fmt.Sprintf("monitor mode lets denials through until %s: rules %v", until, monitor["rules"])})
		}
	}
	if on, _ := config["mass_revoke"].(bool); on {
		warnings = append(warnings, Warning{"mass-revoke", "config mass_revoke", "the brake on mass revocation is off: a mistake in this bundle empties every volume of a node"})
	}
	return warnings
}

// covering returns a function that names another grant which allows all that a
// grant does, "" if there is none. Of two that allow the same the later id is
// reported, by the earlier. Candidates come from the keys that a decision would
// look up, so that ten thousand grants are not compared with each other.
func covering(b policies.Bundle) func(Grant) string {
	byID, index := map[string]Grant{}, map[string][]string{}
	for _, g := range Grants(b) {
		byID[g.ID] = g
		for _, subject := range g.subjectKeys() {
			for _, key := range g.secretKeys() {
				index[subject+" "+key] = append(index[subject+" "+key], g.ID)
			}
		}
	}
	return func(g Grant) string {
		var ids []string
		for _, subject := range subjectsAbove(g.subjectKeys()[0]) {
			for _, key := range keysAbove(g.secretKeys()[0]) {
				ids = append(ids, index[subject+" "+key]...)
			}
		}
		slices.Sort(ids)
		for _, id := range slices.Compact(ids) {
			other := byID[id]
			if id != g.ID && other.covers(g) && (!g.covers(other) || id < g.ID) {
				return id
			}
		}
		return ""
	}
}

// covers reports whether a grant allows whatever another one does.
func (g Grant) covers(o Grant) bool {
	within := func(keys []string, above func(string) []string, have []string) bool {
		has := make(map[string]bool, len(have)) // lists may be long
		for _, key := range have {
			has[key] = true
		}
		return !slices.ContainsFunc(keys, func(key string) bool {
			return !slices.ContainsFunc(above(key), func(k string) bool { return has[k] })
		})
	}
	return g.Provider == o.Provider && maps.Equal(g.Scoping, o.Scoping) && maps.Equal(g.NamespaceSelector, o.NamespaceSelector) &&
		cmp.Compare(g.Expiry, o.Expiry) >= 0 && g.coversLimits(o) &&
		within(o.subjectKeys(), subjectsAbove, g.subjectKeys()) && within(o.secretKeys(), keysAbove, g.secretKeys())
}

// coversLimits compares what narrows a grant. Modes and audiences have to be
// equal: where several grants serve a request the narrowest holds, so that one
// with a narrower mode is not without effect.
func (g Grant) coversLimits(o Grant) bool {
	subset := func(few, many []string) bool {
		return !slices.ContainsFunc(few, func(s string) bool { return !slices.Contains(many, s) })
	}
	switch {
	case (g.Audiences == nil) != (o.Audiences == nil) || !subset(o.Audiences, g.Audiences) || !subset(g.Audiences, o.Audiences):
		return false
	case o.OwnerUID != nil && (g.OwnerUID == nil || *g.OwnerUID != *o.OwnerUID):
		return false
	case !subset(o.SyncTargets, g.SyncTargets):
		return false
	case g.ImageSigners != nil && (o.ImageSigners == nil || !subset(o.ImageSigners, g.ImageSigners)):
		return false
	case (g.MaxFileMode == nil) != (o.MaxFileMode == nil) || g.MaxFileMode != nil && *g.MaxFileMode != *o.MaxFileMode:
		return false
	case g.Pods == nil:
		return true
	}
	return o.Pods != nil && slices.Equal(g.Pods.OwnerKinds, o.Pods.OwnerKinds) && slices.Equal(g.Pods.OwnerNames, o.Pods.OwnerNames) &&
		slices.Equal(g.Pods.ImageRepositories, o.Pods.ImageRepositories) && slices.Equal(g.Pods.NamePatterns, o.Pods.NamePatterns)
}

// subjectsAbove returns a subject key and the wider one.
func subjectsAbove(subject string) []string {
	return []string{subject, subject[:strings.LastIndex(subject, "/")+1] + "*"}
}

// keysAbove returns the keys that a decision about whatever a secret key stands
// for looks up as well.
func keysAbove(key string) []string {
	if strings.HasPrefix(key, "unparsed:") {
		return []string{key}
	}
	keys := []string{key}
	if unversioned, _, ok := strings.Cut(key, "@"); ok {
		keys = append(keys, unversioned)
	}
	path, _, ok := strings.Cut(keys[len(keys)-1], "#")
	if ok {
		keys = append(keys, path+"#")
	}
	begin := strings.Index(path, "://") + len("://")
	for i := begin; i < len(path); i++ {
		if path[i] == '/' {
			keys = append(keys, path[:i+1])
		}
	}
	return keys
}
