package policies

import (
	"io/fs"
	"slices"
)

// The ceilings that no policy, provider or user can lift (promise P6): with an
// fsGroup the owner and the group may read, without one everybody in the pod;
// a file with an owner of its own is for that owner alone.
const (
	ceilingWithGroup    fs.FileMode = 0o440
	ceilingWithoutGroup fs.FileMode = 0o444
	modeOwnerOnly       fs.FileMode = 0o400
	// writeBits are dropped from what users ask for rather than refused, since
	// manifests in the field say 0600 and 0644.
	writeBits fs.FileMode = 0o222
)

// Grant is proof of an allowed decision. Only Decision.Grant makes a usable
// one; the zero Grant names no objects and permits nothing.
type Grant struct{ decision *Decision }

// DecisionID returns the id of the decision, "" for the zero Grant.
func (g Grant) DecisionID() string {
	if g.decision == nil {
		return ""
	}
	return g.decision.ID
}

// Subject returns the confirmed subject that the decision was about.
func (g Grant) Subject() Subject {
	if g.decision == nil {
		return Subject{}
	}
	return g.decision.input.Subject
}

// Provider returns the name of the granted provider.
func (g Grant) Provider() string {
	if g.decision == nil {
		return ""
	}
	return g.decision.input.SPC.Provider
}

// VolumeName returns the name of the pod's volume.
func (g Grant) VolumeName() string {
	if g.decision == nil {
		return ""
	}
	return g.decision.input.Volume.Name
}

// Requests returns exactly what was decided on; nothing can be added between
// the decision and the fetch.
func (g Grant) Requests() []Request {
	if g.decision == nil {
		return nil
	}
	return slices.Clone(g.decision.input.Requests)
}

// Obligations returns the conditions of the grant.
func (g Grant) Obligations() Obligations {
	if g.decision == nil {
		return Obligations{}
	}
	return g.decision.Obligations
}

// Permits reports whether parameters with this digest are those decided on.
func (g Grant) Permits(parametersSHA256 string) bool {
	return g.decision != nil && parametersSHA256 != "" && g.decision.input.SPC.ParametersSHA256 == parametersSHA256
}

// FSGroup returns the group that owns the files, and whether there is one.
func (g Grant) FSGroup() (gid int64, ok bool) {
	if g.decision == nil || g.decision.input.Volume.VolumeMountGroup == nil {
		return 0, false
	}
	return *g.decision.input.Volume.VolumeMountGroup, true
}

// Ceiling returns the mode that no file of this volume exceeds.
func (g Grant) Ceiling() fs.FileMode {
	if g.decision == nil {
		return 0
	}
	c := hardCeiling(g.decision.input.Volume)
	if m := g.decision.Obligations.MaxFileMode; m != nil {
		c &= fs.FileMode(*m)
	}
	return c
}

// FileMode returns the mode of the file of request r when the provider asks
// for provided, and whether what was asked had to be lowered. The user's mode
// goes before the provider's; zero means the default, which is the ceiling. A
// result without any read bit is for the caller to refuse.
func (g Grant) FileMode(r Request, provided fs.FileMode) (mode fs.FileMode, clamped bool) {
	ceiling := g.Ceiling()
	if r.UID != nil {
		return modeOwnerOnly & ceiling, provided&^modeOwnerOnly != 0
	}
	asked := provided
	if r.Mode != nil && *r.Mode != 0 {
		asked = fs.FileMode(*r.Mode) & fs.ModePerm
	}
	if asked == 0 {
		return ceiling, false
	}
	mode = asked & ceiling
	if mode == 0 {
		return 0, true
	}
	if _, grouped := g.FSGroup(); grouped {
		// As in-tree secret volumes do: 0400 would lock out the very pod
		// that set an fsGroup in order to read the file.
		mode |= 0o440 & ceiling
	}
	return mode, asked&^ceiling != 0
}

// hardCeiling is the mode ceiling of a volume before any policy.
func hardCeiling(v Volume) fs.FileMode {
	if v.VolumeMountGroup != nil {
		return ceilingWithGroup
	}
	return ceilingWithoutGroup
}
