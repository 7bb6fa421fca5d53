package doctor_test

import (
	"strings"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/doctor"
)

// daemons are a plugin on each of node1, node2 and node3, and a webhook, which
// change is told before they are looked at.
func daemons(change func(all []doctor.Daemon)) func(*doctor.Facts) {
	return func(f *doctor.Facts) {
		all := []doctor.Daemon{
			{Name: "csi-a", Node: "node1", Policy: inForce(7)}, {Name: "csi-b", Node: "node2", Policy: inForce(7)}, {Name: "csi-c", Node: "node3", Policy: inForce(7)},
			{Name: "portcullis-webhook-0", Node: "node1", Webhook: true, Policy: inForce(7)},
		}
		change(all)
		f.Cluster.Daemons.Value = all
	}
}

// floored is a cluster whose plugins are told of a floor, with data.
func floored(data map[string]string, change func(all []doctor.Daemon)) func(*doctor.Facts) {
	return func(f *doctor.Facts) {
		daemons(change)(f)
		told(f, "kube-system/portcullis-policy-floor")
		f.Cluster.Floor.Value = &doctor.Floor{}
		f.Cluster.Floor.Value.Data.Serial, f.Cluster.Floor.Value.Data.Digest = data["serial"], data["digest"]
	}
}

func told(f *doctor.Facts, floor string) {
	c := &f.Cluster.DaemonSets.Value[0].Spec.Template.Spec.Containers[0]
	c.Args = append(c.Args, "--policy-floor="+floor)
}

func asTheyAre([]doctor.Daemon) {}

func emergency(until time.Time) *doctor.InForce {
	p := inForce(1)
	p.BreakGlass, p.NotAfter, p.Age = true, until, time.Minute
	return p
}

func badDrift() []bad {
	const check = "policy.drift"
	young := func(all []doctor.Daemon, age time.Duration) {
		for i := range all[1:] {
			all[i+1].Policy = inForce(8)
			all[i+1].Policy.Age = age
		}
	}
	return []bad{
		{"one bundle", check, daemons(asTheyAre), doctor.OK, "serial 7 (sha256:" + strings.Repeat("0", 63) + "7) in force in all of 4 daemons", ""},
		{"on its way", check, daemons(func(all []doctor.Daemon) { young(all, 3*time.Minute) }), doctor.Warn, "plugin of node1, and serial 8", "poll-interval"},
		{"for an hour", check, daemons(func(all []doctor.Daemon) { young(all, time.Hour) }), doctor.Fail, "elsewhere for 1h0m0s", "do not take the other one"},
		{"restarted since", check, daemons(func(all []doctor.Daemon) { young(all, time.Hour); all[1].Policy.Age = 0 }), doctor.Fail, "elsewhere for 1h0m0s", "do not take"},
		{"only the webhook is behind", check, daemons(func(all []doctor.Daemon) { all[3].Policy = inForce(6) }), doctor.Fail, "decides in webhook portcullis-webhook-0, and serial 7", "do not take"},
		{"one serial twice", check, daemons(func(all []doctor.Daemon) { all[2].Policy.Digest = "sha256:" + strings.Repeat("f", 64) }), doctor.Fail, "two bundles have one serial", "who signed both"},
		{"nothing in force", check, daemons(func(all []doctor.Daemon) { all[0].Policy = nil }), doctor.Fail, "plugin of node1 has no policy in force, and grants nothing", "readyz"},
		{"nothing in force anywhere", check, func(f *doctor.Facts) {
			f.Cluster.Daemons.Value = []doctor.Daemon{{Name: "csi-a", Node: "node1"}}
		}, doctor.Fail, "grants nothing", "readyz"},
		{"emergency in one place", check, daemons(func(all []doctor.Daemon) { all[0].Policy = emergency(noon.Add(time.Hour)) }), doctor.Warn, "break-glass serial 1", "poll-interval"},
		{"one is deaf", check, daemons(func(all []doctor.Daemon) { all[1].Err, all[1].Policy = errBroken, nil }), doctor.NA, "1 daemon could not be asked: plugin of node2", ""},
		{"one is deaf, the others agree", check, daemons(func(all []doctor.Daemon) { all[1].Err, all[1].Policy = errBroken, nil }), doctor.OK, "in all of 3 daemons", ""},
		{"all are deaf", check, daemons(func(all []doctor.Daemon) {
			for i := range all {
				all[i].Err, all[i].Policy = errBroken, nil
			}
		}), doctor.Warn, "could not be looked at", "mend it"},
		{"nobody runs", check, func(f *doctor.Facts) { f.Cluster.Daemons.Value = nil }, doctor.NA, "no plugin or webhook runs", ""},
	}
}

func badFloors() []bad {
	const check = "policy.floor"
	at := func(serial, digest string) map[string]string {
		return map[string]string{"serial": serial, "digest": digest}
	}
	seven := at("7", inForce(7).Digest)
	return []bad{
		{"at the floor", check, floored(seven, asTheyAre), doctor.OK, "the floor is serial 7, and none of 4 daemons is below", ""},
		{"above the floor", check, floored(at("6", inForce(6).Digest), asTheyAre), doctor.OK, "none of 4", ""},
		{"below for a day", check, floored(seven, func(all []doctor.Daemon) { all[1].Policy = inForce(6) }), doctor.Fail, "plugin of node2 decides by serial 6", "policy that was replaced"},
		{"below for a minute", check, floored(at("8", inForce(8).Digest), func(all []doctor.Daemon) {
			all[3].Policy = inForce(8)
			all[3].Policy.Age = time.Minute
		}), doctor.Warn, "below the floor 8", "poll-interval"},
		{"all below", check, floored(at("8", inForce(8).Digest), asTheyAre), doctor.Fail, "below the floor 8", "policy that was replaced"},
		{"an emergency is below no floor", check, floored(seven, func(all []doctor.Daemon) { all[0].Policy = emergency(noon.Add(time.Hour)) }), doctor.OK, "none of 4", ""},
		{"another bundle at the floor", check, floored(at("7", "sha256:"+strings.Repeat("f", 64)), asTheyAre), doctor.Fail, "plugin of node3 decides by serial 7", "who signed both"},
		{"empty", check, floored(nil, asTheyAre), doctor.Warn, "has no serial yet", "readyz"},
		{"damaged", check, floored(at("seven", ""), asTheyAre), doctor.Fail, "holds no serial", "who wrote it"},
		{"below zero", check, floored(at("-1", ""), asTheyAre), doctor.Fail, "holds no serial", "who wrote it"},
		{"missing", check, func(f *doctor.Facts) { told(f, "kube-system/portcullis-policy-floor") }, doctor.Fail, "is missing", "who deleted it"},
		{"nobody is told", check, func(f *doctor.Facts) {
			f.Cluster.Floor.Value = &doctor.Floor{}
			f.Cluster.Floor.Value.Data.Serial = "7"
		}, doctor.Warn, "no plugin is told", "policy.floor.enabled"},
		{"another floor", check, func(f *doctor.Facts) { told(f, "security/floor") }, doctor.NA, "security/floor, which is not the chart's", ""},
		{"none", check, daemons(asTheyAre), doctor.NA, "no floor of policy", ""},
		{"forbidden", check, func(f *doctor.Facts) { f.Cluster.Floor.Err = errBroken }, doctor.Warn, "the floor of policy could not be looked at", "mend it"},
		{"nobody knows what plugins are told", check, func(f *doctor.Facts) { f.Cluster.DaemonSets.Err = errBroken }, doctor.Warn, "could not be looked at", "mend it"},
		{"nothing in force is known", check, func(f *doctor.Facts) { floored(seven, asTheyAre)(f); f.Cluster.Daemons.Err = errBroken }, doctor.NA, "see policy.drift", ""},
	}
}

// badPolicies are situations of what is in force in a cluster.
func badPolicies() []bad {
	const origin, glass, end, candidate = "policy.origin", "policy.break-glass", "policy.end", "policy.candidate"
	ends := func(at time.Time) func(*doctor.Facts) {
		return daemons(func(all []doctor.Daemon) { all[2].Policy.NotAfter = at; all[2].Policy.Serial = 6 })
	}
	tries := func(c doctor.Candidate) func(*doctor.Facts) {
		return daemons(func(all []doctor.Daemon) {
			all[0].Candidate, all[3].Candidate = &doctor.Candidate{Serial: 8, Compared: 3}, &c
		})
	}
	all := []bad{
		{"from the source", origin, daemons(asTheyAre), doctor.OK, "in all of 4 daemons", ""},
		{"from the store", origin, daemons(func(all []doctor.Daemon) { all[1].Policy.Origin = "store" }), doctor.Warn, "came from the store in plugin of node2", "--policy"},
		{"from the fallback", origin, daemons(func(all []doctor.Daemon) { all[3].Policy.Origin = "fallback" }), doctor.Warn, "came from the fallback in webhook portcullis-webhook-0", "--policy"},
		{"no emergency", glass, daemons(asTheyAre), doctor.OK, "none is in force in 4 daemons", ""},
		{"emergency", glass, daemons(func(all []doctor.Daemon) { all[0].Policy = emergency(noon.Add(time.Hour)) }), doctor.Fail, "decides in plugin of node1 until 2026-11-26T13:00:00Z", "higher serial"},
		{"a month", end, daemons(asTheyAre), doctor.OK, "ends 2026-12-26", ""},
		{"eight days", end, ends(noon.Add(8 * 24 * time.Hour)), doctor.OK, "ends 2026-12-04", ""},
		{"six days", end, ends(noon.Add(6 * 24 * time.Hour)), doctor.Warn, "ends 2026-12-02", "not_after"},
		{"over", end, ends(noon), doctor.Fail, "ended 2026-11-26", "not_after"},
		{"without end", end, ends(time.Time{}), doctor.Warn, "no end", "not_after"},
		{"only an emergency", end, func(f *doctor.Facts) {
			f.Cluster.Daemons.Value = []doctor.Daemon{{Name: "csi-a", Node: "node1", Policy: emergency(noon)}}
		}, doctor.NA, "see policy.break-glass", ""},
		{"no candidate", candidate, daemons(asTheyAre), doctor.NA, "no --policy-shadow", ""},
		{"candidate agrees", candidate, tries(doctor.Candidate{Serial: 8, Compared: 4}), doctor.OK, "7 decisions compared", ""},
		{"candidate flips", candidate, tries(doctor.Candidate{Serial: 8, Compared: 4, Flips: 2}), doctor.Warn, "webhook portcullis-webhook-0 has the candidate of serial 8; since it started, 2 of 4 decisions", "policy shadow"},
		{"candidate in force by now", candidate, tries(doctor.Candidate{Serial: 7, Compared: 4, Flips: 2}), doctor.OK, "compared", ""},
		{"candidate not loaded", candidate, tries(doctor.Candidate{}), doctor.Warn, "no candidate is loaded in webhook portcullis-webhook-0", "policy shadow"},
		{"nothing in force is known", candidate, func(f *doctor.Facts) { f.Cluster.Daemons.Err = errBroken }, doctor.NA, "see policy.drift", ""},
	}
	return append(append(all, badDrift()...), badFloors()...)
}

func TestPoliciesInForce(t *testing.T) {
	for _, b := range badPolicies() {
		t.Run(b.check+" "+b.name, b.try)
	}
}

// The newest bundle is never called the one that is behind.
func TestDriftNamesWhoIsBehind(t *testing.T) {
	f := good()
	daemons(func(all []doctor.Daemon) { all[0].Policy, all[1].Policy = inForce(9), inForce(8) })(f)
	var said []string
	for _, r := range doctor.Run(f).Results {
		if r.Check == "policy.drift" {
			said = append(said, r.Finding)
		}
	}
	if len(said) != 2 || !strings.HasPrefix(said[0], "serial 7") || !strings.HasPrefix(said[1], "serial 8") {
		t.Errorf("policy.drift says %q, want one line for serial 7 and one for serial 8", said)
	}
}
