package shadow_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
	"github.com/portcullis-csi/portcullis/policies/shadow"
)

func TestAFullQueueCountsWhatItDoesNotTake(t *testing.T) {
	g := newGate(t, load(t, policiestest.Grants, serial("1")), load(t, "", serial("2")))
	var of []policies.Decision
	for n := range 2 * shadow.SharePart {
		of = append(of, g.active.Load().Decide(t.Context(), policiestest.Input(namespaceOf(fmt.Sprint("ns-", n)))))
	}
	// One namespace gets a quarter, however much it asks for.
	for range shadow.QueueDecisions {
		g.Observe(of[0])
	}
	r := g.Report()
	if share := int64(shadow.QueueDecisions / shadow.SharePart); r.Queued != share || r.Dropped.Share != shadow.QueueDecisions-share || r.Dropped.Full != 0 {
		t.Errorf("%d of one namespace queued, %+v dropped; want %d queued and the others of its share", r.Queued, r.Dropped, share)
	}
	for range shadow.QueueDecisions {
		for _, d := range of[1:] {
			g.Observe(d)
		}
	}
	r = g.Report()
	if r.Queued != shadow.QueueDecisions || r.Dropped.Full == 0 {
		t.Errorf("%d queued and %+v dropped, want %d and some for a full queue", r.Queued, r.Dropped, shadow.QueueDecisions)
	}
	if all := r.Queued + r.Dropped.Full + r.Dropped.Share; all != int64(len(of)*shadow.QueueDecisions) {
		t.Errorf("%d queued or dropped, want all %d", all, len(of)*shadow.QueueDecisions)
	}
	g.DecideBy(nothing)
	g.Drain(t.Context())
	g.Observe(of[0])
	if r := g.Report(); r.Queued != 1 || r.Compared != shadow.QueueDecisions {
		t.Errorf("%d queued and %d compared after draining, want 1 and %d: its room is free again", r.Queued, r.Compared, shadow.QueueDecisions)
	}
}

func TestTheQueueIsBoundedInBytes(t *testing.T) {
	g := newGate(t, load(t, policiestest.Grants, serial("1")), load(t, "", serial("2")))
	large := strings.Repeat("x", 120<<10)
	for i := range 8 {
		d := g.active.Load().Decide(t.Context(), policiestest.Input(namespaceOf(fmt.Sprint("ns-", i)), func(in *policies.Input) {
			in.Pod.Containers[0].Image = large
		}))
		for range 100 {
			g.Observe(d)
		}
	}
	r := g.Report()
	if most := int64(shadow.QueueBytes / len(large)); r.Queued > most || r.Queued < most-2*shadow.SharePart || r.Dropped.Share == 0 || r.Dropped.Full == 0 {
		t.Errorf("%d queued, %+v dropped; want at most %d of 120 KiB and both bounds met", r.Queued, r.Dropped, most)
	}
	if all := r.Queued + r.Dropped.Full + r.Dropped.Share; all != 800 {
		t.Errorf("%d queued or dropped, want 800", all)
	}
}

// Every text of a decision counts, so that no field is a way round the bound.
func TestSizeSeesEveryText(t *testing.T) {
	const extra = 10_000
	long := strings.Repeat("x", extra)
	full := policiestest.Input(func(in *policies.Input) {
		fill(reflect.ValueOf(in).Elem())
		in.Requests, in.Pod.Containers = in.Requests[:1], in.Pod.Containers[:1]
	})
	var engine *policies.Engine // decides nothing, so that only the input counts
	base := shadow.SizeOf(engine.Decide(t.Context(), full))
	paths := 0
	each(reflect.ValueOf(&full).Elem(), "input", func(path string, set func(string)) {
		paths++
		set(long)
		if grown := shadow.SizeOf(engine.Decide(t.Context(), full)) - base; grown < extra-100 {
			t.Errorf("%s of 10,000 bytes adds %d to the size", path, grown)
		}
		set("x")
		base = shadow.SizeOf(engine.Decide(t.Context(), full))
	})
	if paths < 35 {
		t.Errorf("%d texts found in an input: the test is broken", paths)
	}
	encoded, err := json.Marshal(full)
	if err != nil || base < len(encoded) {
		t.Errorf("an input of %d bytes of JSON counts as %d, %v", len(encoded), base, err)
	}
	denied := policiestest.Deny(t)
	size := shadow.SizeOf(denied)
	denied.Deny[0].Message += long
	denied.Grants = append(denied.Grants, long)
	if grown := shadow.SizeOf(denied) - size; grown < 2*extra {
		t.Errorf("20,000 bytes of findings and grants add %d to the size", grown)
	}
}

// fill puts something into every field.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		if v.String() == "" {
			v.SetString("x")
		}
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		fill(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Slice:
		if v.Len() == 0 {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		}
		for i := range v.Len() {
			fill(v.Index(i))
		}
	case reflect.Map:
		if v.Len() == 0 {
			v.Set(reflect.ValueOf(map[string]string{"k": "v"}))
		}
	default:
	}
}

// each calls f with every text of a value, and a way to set it.
func each(v reflect.Value, path string, f func(path string, set func(string))) {
	switch v.Kind() {
	case reflect.String:
		f(path, v.SetString)
	case reflect.Pointer:
		each(v.Elem(), path, f)
	case reflect.Struct:
		for i := range v.NumField() {
			each(v.Field(i), path+"."+v.Type().Field(i).Name, f)
		}
	case reflect.Slice:
		for i := range v.Len() {
			each(v.Index(i), path+"[]", f)
		}
	case reflect.Map:
		f(path+"{}", func(s string) { v.SetMapIndex(reflect.ValueOf("k"), reflect.ValueOf(s)) })
	default:
	}
}

// Whoever makes up workloads fills its own quarter of the list. What it does not
// get in is counted, and the flips of others are listed.
func TestOneNamespaceDoesNotFillTheList(t *testing.T) {
	g := flipping(t)
	for i := range 2 * shadow.MaxGroups {
		g.flip(t, pod(fmt.Sprint("u-", i), fmt.Sprint("pod-", i)), namespaceOf("hostile"))
	}
	g.flip(t, pod("u", "victim"), namespaceOf("other"))
	r := g.Report()
	listed := map[string]int64{}
	for _, f := range r.Flipped {
		listed[f.Workload.Namespace]++
	}
	if listed["hostile"] != shadow.MaxGroups/shadow.SharePart || listed["other"] != 1 {
		t.Errorf("%v are listed, want %d of hostile and the one of other", listed, shadow.MaxGroups/shadow.SharePart)
	}
	for _, n := range r.Namespaces {
		want := map[string]int64{"hostile": 2*shadow.MaxGroups - listed["hostile"], "other": 0}[n.Namespace]
		if n.Unlisted != want {
			t.Errorf("%d of %s are not listed, want %d", n.Unlisted, n.Namespace, want)
		}
	}
	if r.Unlisted != 2*shadow.MaxGroups-listed["hostile"] || r.Total() != 2*shadow.MaxGroups+1 {
		t.Errorf("%d of %d flips are not listed, want %d of %d", r.Unlisted, r.Total(), 2*shadow.MaxGroups-listed["hostile"], 2*shadow.MaxGroups+1)
	}
}

func TestAReportIsBounded(t *testing.T) {
	g := flipping(t)
	long := strings.Repeat("n", 20_000) // an owner reference may be named like this
	for n := range 40 {
		for i := range 40 {
			g.flip(t, namespaceOf(fmt.Sprint("ns-", n)), func(in *policies.Input) {
				in.Pod.Owner = &policies.Owner{Kind: "Thing", Name: fmt.Sprint(i, long)}
			})
		}
	}
	text, err := g.JSON()
	if err != nil || len(text) > 2*shadow.MaxGroupBytes {
		t.Errorf("the report has %d bytes, %v; want at most %d", len(text), err, 2*shadow.MaxGroupBytes)
	}
	r := g.Report()
	if len(r.Flipped) == 0 || r.Unlisted+int64(len(r.Flipped)) != 1600 {
		t.Errorf("%d listed and %d not, want 1600 in all", len(r.Flipped), r.Unlisted)
	}
	for i := range shadow.MaxVolumes + 10 {
		g.flip(t, pod(fmt.Sprint("u-", i), fmt.Sprint("p-", i)), namespaceOf(fmt.Sprint("many-", i%(2*shadow.MaxNamespaces))))
	}
	r = g.Report()
	if !r.AtLeast || r.Volumes != shadow.MaxVolumes || len(r.Namespaces) != shadow.MaxNamespaces+1 {
		t.Errorf("%d volumes, at least: %v, %d namespaces; want %d, true, %d", r.Volumes, r.AtLeast, len(r.Namespaces), shadow.MaxVolumes, shadow.MaxNamespaces+1)
	}
	total := int64(0)
	for _, n := range r.Namespaces {
		total += n.Flips[shadow.Undecided]
	}
	if total != r.Total() {
		t.Errorf("the namespaces have %d flips, want all %d", total, r.Total())
	}
}
