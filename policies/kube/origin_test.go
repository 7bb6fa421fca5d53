package kube_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	k8stypes "k8s.io/apimachinery/pkg/types"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/kube"
)

type types = k8stypes.UID

// Every field that holds a value has one row, and every row is a field.
func TestOriginsAreTheFieldsOfTheSchema(t *testing.T) {
	var listed []string
	for _, o := range kube.Origins() {
		listed = append(listed, o.Field)
	}
	slices.Sort(listed)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(leaves(t))), listed); diff != "" {
		t.Errorf("Origins() lists other fields (-schema +Origins):\n%s", diff)
	}
	for _, p := range append(phases(), "other") {
		for _, o := range kube.Origins() {
			if p == "other" && o.In(p) != "" {
				t.Errorf("%s in phase %q comes from %q, want nothing", o.Field, p, o.In(p))
			}
		}
	}
}

// fieldsOf returns the fields of some origins in a phase, sorted.
func fieldsOf(p policies.Phase, origins ...kube.Origin) []string {
	var fields []string
	for _, o := range kube.Origins() {
		if slices.Contains(origins, o.In(p)) {
			fields = append(fields, o.Field)
		}
	}
	slices.Sort(fields)
	return fields
}

// source changes everything that comes from one place.
type source struct {
	origin kube.Origin
	also   kube.Origin // whose fields may change along
	change func(f, other *kube.Facts, p policies.Phase)
}

func sources() []source {
	return []source{
		{kube.OriginClock, "", func(f, o *kube.Facts, _ policies.Phase) { f.Now = o.Now }},
		{kube.OriginClusterName, "", func(f, o *kube.Facts, _ policies.Phase) { f.Cluster = o.Cluster }},
		{kube.OriginNodeID, "", func(f, o *kube.Facts, _ policies.Phase) { f.Node = o.Node }},
		{kube.OriginAPIRequest, "", func(f, o *kube.Facts, _ policies.Phase) { f.Requester = o.Requester }},
		{kube.OriginToken, "", func(f, o *kube.Facts, _ policies.Phase) { f.Tokens, f.TokenVerified = o.Tokens, o.TokenVerified }},
		{kube.OriginNamespace, "", func(f, o *kube.Facts, _ policies.Phase) { f.Namespace = o.Namespace }},
		{kube.OriginServiceAccount, "", func(f, o *kube.Facts, _ policies.Phase) { f.ServiceAccount = o.ServiceAccount }},
		{kube.OriginClass, kube.OriginParameters, func(f, o *kube.Facts, _ policies.Phase) { f.Class = o.Class }},
		{kube.OriginPod, "", changePod},
		// The group has to be the pod's; see TestOriginOfTheGroup.
		{kube.OriginKubelet, "", func(f, o *kube.Facts, p policies.Phase) {
			if !early(p) {
				f.VolumeName = o.VolumeName
			}
			if !groupsAgree(p) {
				f.VolumeMountGroup = new(int64(2001))
			}
		}},
	}
}

// early reports phases without a request of kubelet: volume and group are then
// the pod's.
func early(p policies.Phase) bool { return p == policies.PhaseAdmission || p == policies.PhaseCI }

// groupsAgree reports phases that refuse another group than the pod's.
func groupsAgree(p policies.Phase) bool { return p == policies.PhaseMount || p == policies.PhaseRotate }

func changePod(f, o *kube.Facts, p policies.Phase) {
	f.Pod = o.Pod
	if early(p) {
		f.VolumeName = o.VolumeName
	}
	if !groupsAgree(p) {
		f.Pod.Spec.SecurityContext.FSGroup = new(int64(2001))
	}
}

// TestOriginsAreExact: what comes from one place changes exactly the fields that
// the table says come from there, in each phase.
func TestOriginsAreExact(t *testing.T) {
	for _, p := range phases() {
		for _, s := range sources() {
			t.Run(fmt.Sprintf("%s/%s", p, s.origin), func(t *testing.T) {
				before, other := full("a", 1), full("b", 2)
				f := full("a", 1)
				s.change(&f, &other, p)
				link(&before)
				link(&f)
				must, may := fieldsOf(p, s.origin), fieldsOf(p, s.origin, s.also)
				if s.also == "" {
					may = must
				}
				if groupsAgree(p) {
					must = without(without(must, "pod.fsGroup"), "volume.volumeMountGroup")
				}
				got := changed(t, at(p, before), at(p, f))
				if diff := cmp.Diff(must, intersection(got, must)); diff != "" {
					t.Errorf("fields that did not change with %q (-table +changed):\n%s", s.origin, diff)
				}
				for _, field := range got {
					if !slices.Contains(may, field) {
						t.Errorf("%s changed with %q, which the table does not say", field, s.origin)
					}
				}
			})
		}
	}
}

// The parameters: several classes, since no syntax fills every field.
func TestOriginsOfParametersAreExact(t *testing.T) {
	for _, p := range phases() {
		want := fieldsOf(p, kube.OriginParameters)
		var all []string
		for name, v := range variants() {
			before, after := full("a", 1), full("a", 1)
			v[0](&before)
			v[1](&after)
			link(&before)
			link(&after)
			for _, field := range changed(t, at(p, before), at(p, after)) {
				if !slices.Contains(want, field) {
					t.Errorf("%s: %s changed with parameters (%s), which the table does not say", p, field, name)
				}
				all = append(all, field)
			}
		}
		slices.Sort(all)
		if diff := cmp.Diff(want, slices.Compact(all)); diff != "" {
			t.Errorf("%s: fields that no parameter changed (-table +changed):\n%s", p, diff)
		}
	}
}

// From mount on kubelet's group has to be the pod's, or nothing is decided; so
// both fields change at once, and neither alone.
func TestOriginOfTheGroup(t *testing.T) {
	for _, p := range slices.DeleteFunc(phases(), func(p policies.Phase) bool { return !groupsAgree(p) }) {
		facts := func(pod, request int64) kube.Facts {
			f := full("a", 1)
			f.Pod.Spec.SecurityContext.FSGroup, f.VolumeMountGroup = new(pod), new(request)
			link(&f)
			return at(p, f)
		}
		if diff := cmp.Diff([]string{"pod.fsGroup", "volume.volumeMountGroup"}, changed(t, facts(1, 1), facts(2, 2))); diff != "" {
			t.Errorf("%s: other fields changed (-want +got):\n%s", p, diff)
		}
		for _, f := range []kube.Facts{facts(1, 2), facts(2, 1)} {
			if _, _, err := kube.BuildInput(f); err == nil {
				t.Errorf("BuildInput(%s, groups %d and %d) = nil, want an error", p, *f.Pod.Spec.SecurityContext.FSGroup, *f.VolumeMountGroup)
			}
		}
	}
}

// What a phase lacks is absent, and what is constant says nothing else.
func TestOriginsAbsentAndConstant(t *testing.T) {
	for _, p := range phases() {
		f := full("b", 2)
		link(&f)
		in, _, err := kube.BuildInput(at(p, f))
		if err != nil {
			t.Fatal(err)
		}
		have := values(t, in)
		for _, field := range fieldsOf(p, "") {
			if len(have[field]) != 0 {
				t.Errorf("%s: %s = %q, want it absent", p, field, have[field])
			}
		}
		constants := map[string][]string{}
		for _, field := range fieldsOf(p, kube.OriginConstant) {
			constants[field] = have[field]
		}
		want := map[string][]string{"contract": {`"portcullis/v1"`}, "phase": {`"` + string(p) + `"`}, "volume.readOnly": {"true"}, "volume.ephemeral": {"true"}}
		if diff := cmp.Diff(want, constants); diff != "" {
			t.Errorf("%s: constants differ (-want +got):\n%s", p, diff)
		}
	}
}

// No leaf of an object, however deep, changes a field of another origin.
func TestOriginsOfEveryLeaf(t *testing.T) {
	p := policies.PhaseCI // in which the pod has most of a say
	for _, test := range []struct {
		object  func(f *kube.Facts) any
		origins []kube.Origin
		effects int // leaves that change something, at least
	}{
		{func(f *kube.Facts) any { return f.Pod }, []kube.Origin{kube.OriginPod, kube.OriginParameters}, 30},
		{func(f *kube.Facts) any { return f.Namespace }, []kube.Origin{kube.OriginNamespace}, 1},
		{func(f *kube.Facts) any { return f.ServiceAccount }, []kube.Origin{kube.OriginServiceAccount}, 1},
		{func(f *kube.Facts) any { return f.Class }, []kube.Origin{kube.OriginClass, kube.OriginParameters}, 6},
	} {
		effects := 0
		before := full("a", 1)
		link(&before)
		count := mutate(t, test.object(&before), -1)
		for i := range count {
			f := full("a", 1)
			link(&f)
			mutate(t, test.object(&f), i)
			link(&f)
			if _, _, err := kube.BuildInput(at(p, f)); err != nil {
				continue // refused: nothing is decided on it
			}
			fields := changed(t, at(p, before), at(p, f))
			for _, field := range fields {
				if !slices.Contains(fieldsOf(p, test.origins...), field) {
					t.Errorf("leaf %d of %T changes %s, which the table does not say", i, test.object(&f), field)
				}
			}
			if len(fields) > 0 {
				effects++
			}
		}
		if effects < test.effects {
			t.Errorf("%d of %d leaves of %T change something, want at least %d", effects, count, test.object(&before), test.effects)
		}
	}
}

// mutate changes the leaf with this number of an object's JSON, and returns how
// many there are.
func mutate(t *testing.T, object any, number int) int {
	t.Helper()
	text, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	if err := json.Unmarshal(text, &tree); err != nil {
		t.Fatal(err)
	}
	seen := 0
	tree = mutated(tree, number, &seen)
	if text, err = json.Marshal(tree); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, object); err != nil {
		t.Fatal(err)
	}
	return seen
}

func mutated(v any, number int, seen *int) any {
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			v[key] = mutated(v[key], number, seen)
		}
		return v
	case []any:
		for i := range v {
			v[i] = mutated(v[i], number, seen)
		}
		return v
	}
	if *seen++; *seen-1 != number {
		return v
	}
	switch v := v.(type) {
	case string:
		return v + "1"
	case float64:
		return v + 1
	case bool:
		return !v
	}
	return v
}

// changed returns the fields in which the inputs of two facts differ, sorted.
func changed(t *testing.T, before, after kube.Facts) []string {
	t.Helper()
	var have [2]map[string][]string
	for i, f := range []kube.Facts{before, after} {
		in, _, err := kube.BuildInput(f)
		if err != nil {
			t.Fatalf("BuildInput(...) = %v, want no error", err)
		}
		have[i] = values(t, in)
	}
	var fields []string
	for field := range leaves(t) {
		if !slices.Equal(have[0][field], have[1][field]) {
			fields = append(fields, field)
		}
	}
	slices.Sort(fields)
	return fields
}

func without(list []string, item string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == item })
}

func intersection(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(b), func(s string) bool { return !slices.Contains(a, s) })
}

// TestP2NodeFieldsAreThoseOfTheOrigins: the load refuses rules over the absence of
// exactly the facts that admission or the command line lacks.
func TestP2NodeFieldsAreThoseOfTheOrigins(t *testing.T) {
	var fields []string
	for _, o := range kube.Origins() {
		if o.Node != "" && (o.Admission == "" || o.CI == "") {
			name, _, _ := strings.Cut(o.Field, "[]")
			fields = append(fields, name)
		}
	}
	slices.Sort(fields)
	if diff := cmp.Diff(slices.Compact(fields), policies.NodeFields()); diff != "" {
		t.Errorf("policies.NodeFields() differs (-origins +fields):\n%s", diff)
	}
}
