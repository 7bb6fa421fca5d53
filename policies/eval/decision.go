package eval

import (
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/explain"
)

// Decision is a whole decision as JSON. It is stable: fields are added and keep
// their meaning.
type Decision struct {
	DecisionID    string                   `json:"decisionId"`
	EventID       string                   `json:"eventId,omitempty"` // of the recorded decision whose input this was
	Effect        explain.Effect           `json:"effect"`
	Mode          policies.Mode            `json:"mode"`
	Undecided     policies.UndecidedReason `json:"undecided,omitempty"`
	Cause         string                   `json:"cause,omitempty"`
	BundleDigest  string                   `json:"bundleDigest"`
	BundleSerial  int64                    `json:"bundleSerial"`
	BundleSigned  bool                     `json:"bundleSigned"`
	LibraryDigest string                   `json:"libraryDigest"`
	InputSHA256   string                   `json:"inputSha256"`
	NowNS         int64                    `json:"nowNs"`
	Deny          []policies.Finding       `json:"deny"`
	Warn          []policies.Finding       `json:"warn"`
	Waivers       []string                 `json:"waivers"`
	Grants        []string                 `json:"grants"`
	Obligations   policies.Obligations     `json:"obligations"`
}

// Of returns the whole of a decision.
func Of(d policies.Decision) Decision {
	w := Decision{
		DecisionID: d.ID, Effect: explain.EffectOf(d), Mode: d.Mode, Undecided: d.Undecided,
		BundleDigest: d.BundleDigest, BundleSerial: d.BundleSerial, BundleSigned: d.BundleSigned, LibraryDigest: d.LibraryDigest,
		InputSHA256: d.InputSHA256, NowNS: d.Input().NowNS,
		Deny: append([]policies.Finding{}, d.Deny...), Warn: append([]policies.Finding{}, d.Warn...),
		Waivers: append([]string{}, d.Waivers...), Grants: append([]string{}, d.Grants...), Obligations: d.Obligations,
	}
	if cause := d.Cause(); cause != nil {
		w.Cause = cause.Error()
	}
	return w
}
