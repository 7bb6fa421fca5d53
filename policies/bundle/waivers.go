package bundle

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/portcullis-csi/portcullis/policies"
)

// Waiver lets one finding pass for one subject until a date, as its author
// writes it in portcullis/waivers/*.yaml.
type Waiver struct {
	ID             string  `json:"id" form:"id" need:"give every waiver an id of its own" doc:"Unique in the bundle; decisions and events name it."`
	Finding        string  `json:"finding" form:"rule" need:"name the rule, PR-nnn" doc:"Id of the rule: PR-010, or a rule of the bundle."`
	Namespace      string  `json:"namespace" form:"namespace" need:"name one namespace" doc:"Namespace of the pods."`
	ServiceAccount string  `json:"serviceAccount" form:"account" need:"name one, or use \"*\" for all of the namespace" doc:"Service account by name, or * for all of the namespace."`
	Secret         *string `json:"secret,omitempty" form:"secret" doc:"A whole secret id as findings name it, no pattern; absent: every secret of the subject."`
	Reason         string  `json:"reason" form:"text" need:"say why the finding is acceptable" doc:"Why the finding is acceptable."`
	Ticket         string  `json:"ticket" form:"text" need:"name the ticket that tracks its end" doc:"The ticket that tracks it."`
	ApprovedBy     string  `json:"approvedBy" form:"text" need:"name who approved it" doc:"Who approved it."`
	Expiry         string  `json:"expiry" form:"date" need:"add a date at most 90 days off" doc:"RFC 3339 date, at most 90 days off; valid through that day, UTC."`
}

// ParseWaivers reads a YAML list of waivers strictly.
func ParseWaivers(text []byte) ([]Waiver, error) {
	var waivers []Waiver
	if _, err := readYAML("", text, &waivers); err != nil {
		return nil, err
	}
	return waivers, nil
}

// IndexWaivers checks waivers and files each under the rule and the subject. How
// far off they end is checked when the bundle is compiled, which knows the time.
func IndexWaivers(waivers []Waiver) (policies.WaiverIndex, error) {
	var c collector
	index := c.indexWaivers(entriesOf(waivers))
	if err := c.errs.Err(); err != nil {
		return nil, err
	}
	return index, nil
}

func (c *collector) indexWaivers(entries []entry[Waiver]) policies.WaiverIndex {
	index := policies.WaiverIndex{}
	seen, f := map[string]policies.Place{}, forms{}
	for _, e := range entries {
		w := e.value
		add := c.reporter("waiver", w.ID, e.where)
		c.unique(seen, w.ID, e.where, add)
		before := len(c.errs)
		w.check(f, add)
		if len(c.errs) > before {
			continue
		}
		if index[w.Finding] == nil {
			index[w.Finding] = map[string][]policies.WaiverRecord{}
		}
		subject := w.Namespace + "/" + w.ServiceAccount
		index[w.Finding][subject] = append(index[w.Finding][subject], w.record())
		c.place("waiver "+w.ID, e.where(""))
		c.place("waiver "+w.ID+": expiry", e.where("expiry"))
	}
	for _, bySubject := range index {
		for _, records := range bySubject {
			slices.SortFunc(records, func(a, b policies.WaiverRecord) int { return strings.Compare(a.ID, b.ID) })
		}
	}
	return index
}

func (w Waiver) check(f forms, add report) {
	f.check(reflect.ValueOf(w), "", add)
	if rulePattern.MatchString(w.Finding) && !policies.Waivable(w.Finding) {
		add("finding", fmt.Sprintf("%s cannot be waived", w.Finding), "only PR-010 and the rules of the bundle can")
	}
	// An empty text would stand for every secret, a pattern for none.
	if w.Secret != nil && !policies.ValidSecret(*w.Secret) {
		add("secret", fmt.Sprintf("%q is not a secret id", clip(*w.Secret)), "name one secret as findings do, or leave it out for every secret of the subject; "+idHint)
	}
}

// record returns what the library reads of a waiver that was checked.
func (w Waiver) record() policies.WaiverRecord {
	end, _ := policies.EndOfDate(w.Expiry)
	return policies.WaiverRecord{
		ID: w.ID, Secret: w.Secret, Reason: w.Reason, Ticket: w.Ticket,
		ApprovedBy: w.ApprovedBy, NotAfterNS: end.UnixNano(),
	}
}
