package testrun

import (
	"errors"
	"fmt"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/portcullis-csi/portcullis/policies"
)

// Fixture is one input and the decision that its author expects of it.
type Fixture struct {
	Name string `json:"name"`
	// Now is the time of the decision, RFC 3339; empty is the time of the run.
	Now string `json:"now"`
	// Phases are the gates that ask; empty is all of them.
	Phases []policies.Phase `json:"phases"`
	// Input is a JSON merge patch (RFC 7396) over DefaultInput, or over what
	// the manifests give.
	Input map[string]any `json:"input"`
	// Manifests is a directory beside the fixture, whose Kubernetes objects
	// give the input of one volume of one pod.
	Manifests string `json:"manifests"`
	Pod       string `json:"pod"` // <namespace>/<name>
	Volume    string `json:"volume"`
	Expect    Expect `json:"expect"`

	// File and Line are where the fixture begins.
	File string `json:"-"`
	Line int    `json:"-"`
	// inputLine is where what makes the input begins.
	inputLine int
	now       time.Time
}

// Expect is the decision. What it leaves out is not compared, but a denial has to
// say by which rules, and an error why: one for another reason would pass as well.
type Expect struct {
	Verdict   string    `json:"verdict"` // allow, deny or error
	Undecided string    `json:"undecided"`
	Monitored *bool     `json:"monitored"`
	Deny      *[]string `json:"deny"` // ids, all of them, in any order
	Warn      *[]string `json:"warn"`
	Grants    *[]string `json:"grants"`
	Waivers   *[]string `json:"waivers"`
	// Obligations are those that are compared.
	Obligations *policies.Obligations `json:"obligations"`

	obligationNames []string
}

// phases are all gates.
func phases() []policies.Phase {
	return []policies.Phase{
		policies.PhaseAdmission, policies.PhaseMount, policies.PhaseRotate, policies.PhaseSync, policies.PhaseCI,
	}
}

const maxFixtures = 2048

// ParseFixtures reads one file of fixtures. Errors are *FixtureError, joined.
func ParseFixtures(file string, text []byte) ([]Fixture, []error) {
	r := &reader{file: file}
	root, ok := r.document(text)
	if !ok {
		return nil, r.errors
	}
	if root.Kind != yaml.SequenceNode || len(root.Content) == 0 || len(root.Content) > maxFixtures {
		r.refuse(root, "", "is not a list of fixtures", fmt.Sprintf("write 1 to %d of them, each beginning with - name: ...", maxFixtures))
		return nil, r.errors
	}
	var fixtures []Fixture
	names := map[string]bool{}
	for i, n := range root.Content {
		at := fmt.Sprintf("[%d]", i)
		f := Fixture{File: file, Line: n.Line, inputLine: n.Line}
		before := len(r.errors)
		r.fill(n, reflect.ValueOf(&f).Elem(), at)
		if len(r.errors) == before {
			r.checkFixture(n, &f, at)
			if names[f.Name] {
				r.refuse(n, at+".name", "is used twice in this file", "name each fixture after what it shows")
			}
			names[f.Name] = true
		}
		fixtures = append(fixtures, f)
	}
	return fixtures, r.errors
}

// ParseNow reads the time of a decision. Years are those that grants may name:
// far from them there are no nanoseconds to count in.
func ParseNow(text string) (time.Time, error) {
	now, err := time.Parse(time.RFC3339, text)
	switch {
	case err != nil:
		return time.Time{}, errors.New("is not a time")
	case now.Year() < 2000 || now.Year() > 2200:
		return time.Time{}, errors.New("is outside the years 2000 to 2200")
	}
	return now, nil
}

// value returns the value of a key, or the object itself.
func value(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return n
}

func podPattern() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9-]{1,63}/[a-z0-9.-]{1,253}$`) }

func (r *reader) checkFixture(n *yaml.Node, f *Fixture, at string) {
	if f.Name == "" || len(f.Name) > 200 || strings.ContainsFunc(f.Name, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		r.refuse(value(n, "name"), at+".name", "is missing, longer than 200 bytes, or holds control characters", "say what the fixture shows")
	}
	if f.Now != "" {
		now, err := ParseNow(f.Now)
		if err != nil {
			r.refuse(value(n, "now"), at+".now", err.Error(), "write 2026-12-31T23:59:59Z")
		}
		f.now = now
	}
	for i, p := range f.Phases {
		if !slices.Contains(phases(), p) {
			r.refuse(value(n, "phases"), fmt.Sprintf("%s.phases[%d]", at, i), fmt.Sprintf("is %q", p), "phases are admission, mount, rotate, sync and ci")
		}
	}
	if len(f.Phases) == 0 {
		f.Phases = phases()
	}
	r.checkSource(n, f, at)
	r.checkExpect(value(n, "expect"), &f.Expect, at+".expect")
}

// checkSource checks where the input comes from.
func (r *reader) checkSource(n *yaml.Node, f *Fixture, at string) {
	if f.Manifests != "" {
		f.inputLine = value(n, "manifests").Line
		if f.Manifests != path.Base(f.Manifests) || strings.HasPrefix(f.Manifests, ".") {
			r.refuse(value(n, "manifests"), at+".manifests", "is not the name of a directory beside the fixture", "put the manifests into tests/<name>/")
		}
	}
	switch {
	case f.Manifests == "" && (f.Pod != "" || f.Volume != ""):
		r.refuse(n, at, "has pod or volume without manifests", "name a directory with manifests, or write input")
	case f.Manifests != "" && (!podPattern().MatchString(f.Pod) || f.Volume == ""):
		r.refuse(n, at, "has manifests without pod and volume", "set pod to <namespace>/<name>, and volume to the name of its volume")
	}
	if f.Input == nil {
		return
	}
	patch := value(n, "input")
	f.inputLine = patch.Line
	check := &reader{file: r.file, nulls: true}
	check.fill(patch, reflect.New(reflect.TypeFor[policies.Input]()).Elem(), at+".input")
	r.errors = append(r.errors, check.errors...)
	for _, key := range []string{"now_ns", "phase", "contract"} {
		if _, set := f.Input[key]; set && key != "contract" {
			r.refuse(value(patch, key), at+".input."+key, "is set", "set now and phases of the fixture")
		}
	}
}

func (r *reader) checkExpect(n *yaml.Node, e *Expect, at string) {
	if o := value(n, "obligations"); o != n {
		for i := 0; i+1 < len(o.Content); i += 2 {
			e.obligationNames = append(e.obligationNames, o.Content[i].Value)
		}
		if len(e.obligationNames) == 0 {
			r.refuse(o, at+".obligations", "names none, so nothing is compared", "name those that matter; 0, false and [] stand for none")
		}
	}
	listed := e.Deny != nil && len(*e.Deny) > 0
	switch {
	case e.Verdict != "allow" && e.Verdict != "deny" && e.Verdict != "error":
		r.refuse(n, at+".verdict", fmt.Sprintf("is %q", e.Verdict), "write allow, deny or error")
	case e.Verdict == "deny" && !listed:
		r.refuse(n, at+".deny", "is missing", "list the ids of the rules that refuse, so that a denial for another reason fails")
	case e.Verdict != "deny" && listed:
		r.refuse(value(n, "deny"), at+".deny", "is set where nothing is denied", "leave it out; what monitor mode lets through is listed in warn")
	case e.Verdict != "error" && e.Undecided != "":
		r.refuse(value(n, "undecided"), at+".undecided", "is set where there is a verdict", "leave it out")
	case e.Verdict == "error" && e.Undecided == "":
		r.refuse(n, at+".undecided", "is missing", "name the reason, "+string(policies.UndecidedInput)+" for example, so that another error fails")
	}
	for _, list := range []struct {
		name string
		ids  *[]string
	}{{"deny", e.Deny}, {"warn", e.Warn}} {
		if list.ids == nil {
			continue
		}
		for i, id := range *list.ids {
			if !idPattern().MatchString(id) {
				r.refuse(value(n, list.name), fmt.Sprintf("%s.%s[%d]", at, list.name, i), fmt.Sprintf("is %q", id), "ids are PR-001 to PR-999")
			}
		}
	}
}

func idPattern() *regexp.Regexp { return regexp.MustCompile(`^PR-\d{3}$`) }
