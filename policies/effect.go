package policies

// Effect is the outcome for one volume, in the words of the audit log: the
// verdict, and whether an allow is one only because denials are monitored.
type Effect string

// The effects. The zero value is none of them.
const (
	EffectAllow            Effect = "allow"
	EffectAllowedMonitored Effect = "allowed_monitored"
	EffectDeny             Effect = "deny"
	EffectUndecided        Effect = "error"
)

// Effect returns the effect of a decision.
func (d Decision) Effect() Effect {
	switch d.verdict {
	case VerdictAllow:
		if d.Monitored() {
			return EffectAllowedMonitored
		}
		return EffectAllow
	case VerdictDeny:
		return EffectDeny
	default:
		return EffectUndecided
	}
}

// Allows reports whether the volume gets its content.
func (e Effect) Allows() bool { return e == EffectAllow || e == EffectAllowedMonitored }

// GrantRef names a grant and who answers for it.
type GrantRef struct {
	ID    string `json:"id"`
	Owner string `json:"owner"`
}

// Owners are those who answer for the grants of a bundle, by the grant's id.
type Owners map[string]string

// Owner returns who answers for a grant, "" if the bundle does not have it.
func (o Owners) Owner(id string) string { return o[id] }

// Owners returns who answers for the grants. Unlike Contents it copies nothing
// of them, so that a daemon can ask for those of a large bundle.
func (b Bundle) Owners() Owners {
	owners := Owners{}
	data, _ := b.Data["portcullis"].(map[string]any)
	section, _ := data["grants"].(map[string]any)
	index, _ := section["by_subject"].(GrantIndex)
	for _, secrets := range index {
		for _, records := range secrets {
			for _, r := range records {
				owners[r.ID] = r.Owner
			}
		}
	}
	return owners
}
