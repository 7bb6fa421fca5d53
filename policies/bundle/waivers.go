package bundle

import (
	"fmt"

	"github.com/portcullis-csi/portcullis/policies"
)

// Waiver lets one finding pass for one subject until a date, as its author
// writes it in portcullis/waivers/*.yaml.
type Waiver struct {
	ID             string  `json:"id"`
	Finding        string  `json:"finding"` // PR-nnn
	Namespace      string  `json:"namespace"`
	ServiceAccount string  `json:"serviceAccount"` // a name, or "*"
	Secret         *string `json:"secret"`         // a whole id; absent: every secret of the subject
	Reason         string  `json:"reason"`
	Ticket         string  `json:"ticket"`
	ApprovedBy     string  `json:"approvedBy"`
	Expiry         string  `json:"expiry"` // RFC 3339 date, at most 90 days off
}

// ParseWaivers reads a YAML list of waivers strictly.
func ParseWaivers(text []byte) ([]Waiver, error) {
	var waivers []Waiver
	if err := decodeYAML(text, &waivers); err != nil {
		return nil, err
	}
	return waivers, nil
}

// IndexWaivers checks waivers and files each under the rule and the subject.
// What may be waived, and for how long, is checked when the bundle is compiled.
func IndexWaivers(waivers []Waiver) (policies.WaiverIndex, error) {
	index := policies.WaiverIndex{}
	seen := map[string]bool{}
	for i, w := range waivers {
		if seen[w.ID] {
			return nil, fmt.Errorf("waiver %q: id is used twice; hint: give every waiver an id of its own", w.ID)
		}
		seen[w.ID] = true
		record, err := w.record()
		if err != nil {
			return nil, fmt.Errorf("waiver %d (id %q): %w", i+1, w.ID, err)
		}
		if index[w.Finding] == nil {
			index[w.Finding] = map[string][]policies.WaiverRecord{}
		}
		subject := w.Namespace + "/" + w.ServiceAccount
		index[w.Finding][subject] = append(index[w.Finding][subject], record)
	}
	return index, nil
}

func (w Waiver) record() (policies.WaiverRecord, error) {
	switch {
	case !idPattern.MatchString(w.ID):
		return policies.WaiverRecord{}, fmt.Errorf("id: %q is not 1 to 63 letters, digits, dots, _ or -", w.ID)
	case w.Finding == "":
		return policies.WaiverRecord{}, fmt.Errorf("finding is missing; hint: name the rule, PR-nnn")
	case !namespacePattern.MatchString(w.Namespace):
		return policies.WaiverRecord{}, fmt.Errorf("namespace: %q is not a namespace", w.Namespace)
	case w.ServiceAccount != "*" && !namePattern.MatchString(w.ServiceAccount):
		return policies.WaiverRecord{}, fmt.Errorf("serviceAccount: %q is not a service account or \"*\"", w.ServiceAccount)
	case w.Reason == "" || w.Ticket == "" || w.ApprovedBy == "":
		return policies.WaiverRecord{}, fmt.Errorf("reason, ticket or approvedBy is missing; hint: give all three")
	}
	// An empty text would stand for every secret, a pattern for none.
	if w.Secret != nil && !policies.ValidSecret(*w.Secret) {
		return policies.WaiverRecord{}, fmt.Errorf("secret: %q is not a secret id; hint: name one secret as findings do, or leave it out for every secret of the subject; "+idHint, *w.Secret)
	}
	end, err := policies.EndOfDate(w.Expiry)
	if err != nil {
		return policies.WaiverRecord{}, fmt.Errorf("expiry: %w; hint: use a date at most 90 days off", err)
	}
	return policies.WaiverRecord{
		ID: w.ID, Secret: w.Secret, Reason: w.Reason, Ticket: w.Ticket,
		ApprovedBy: w.ApprovedBy, NotAfterNS: end.UnixNano(),
	}, nil
}
