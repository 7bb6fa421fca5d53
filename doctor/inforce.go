package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// FloorName is the ConfigMap of the chart with the lowest serial of policy.
const FloorName = "portcullis-policy-floor"

// settled is how long after a bundle came into force somewhere it is in force
// everywhere: kubelet takes two minutes to show a ConfigMap, and what was refused is
// looked at again after fifteen.
const settled = 20 * time.Minute

// Where a bundle in force came from, as both daemons call it.
const originSource = "source"

// Daemon is a plugin or a webhook of the cluster, and what it says of its policy.
type Daemon struct {
	Name      string // of its pod
	Node      string // that the pod is on
	Webhook   bool
	Image     string
	Err       error      // why it could not be asked
	Policy    *InForce   // nil: none
	Candidate *Candidate // nil: it is told of none
}

// InForce is a bundle that decides.
type InForce struct {
	Digest     string
	Serial     int64
	Origin     string
	Age        time.Duration // in that process
	NotAfter   time.Time     // zero: it has no end
	BreakGlass bool
}

// Candidate is a bundle that decides beside the one in force, and is only compared.
type Candidate struct {
	Serial          int64 // 0: none is loaded
	Compared, Flips int64
}

func inForceChecks() []Check {
	return []Check{
		{"policy.drift", OfCluster, "the bundle in force in each plugin and each replica of the webhook, as their metrics say", "one bundle everywhere", "WARN: they differ, and a new bundle is on its way; FAIL: they differ, for longer than that takes or with one serial, so that the gates do not decide alike; or one has none in force and grants nothing; n/a: what could not be asked", judgeDrift},
		{"policy.origin", OfCluster, "where those bundles came from", "from the source of --policy", "WARN: from what was kept or from the fallback, since the source does not deliver a good one", judgeOrigin},
		{"policy.floor", OfCluster, "the ConfigMap " + FloorName + ", against the serials in force", "no serial is below it", "WARN: it is empty, or nobody is told of it, or a new bundle is on its way; FAIL: a bundle that was replaced still decides; it is damaged, or it is missing where plugins are told of it; n/a: there is none", judgeFloor},
		{"policy.break-glass", OfCluster, "whether a break-glass bundle is in force anywhere", "none is", "FAIL: until when, and where", judgeBreakGlass},
		{"policy.end", OfCluster, "not_after of those bundles", "more than a week off", "WARN: less; FAIL: over, nothing is granted", judgeEnds},
		{"policy.candidate", OfCluster, "the candidates of --policy-shadow", "they decide as the bundle in force does", "WARN: they do not, or one is not loaded; n/a: there is none", judgeCandidates},
	}
}

// String says which daemon it is.
func (d *Daemon) String() string {
	if d.Webhook {
		return "webhook " + d.Name
	}
	return "plugin of " + d.Node
}

// String names a bundle so that no other has the same.
func (p *InForce) String() string {
	kind := "serial"
	if p.BreakGlass {
		kind = "break-glass serial"
	}
	return fmt.Sprintf("%s %d (%s)", kind, p.Serial, p.Digest)
}

// deciding are the daemons with a bundle in force; or the results where none has.
func (f *Facts) deciding() ([]*Daemon, []Result) {
	if f.Cluster.Daemons.Err != nil {
		return nil, []Result{na("it is not known what is in force, see policy.drift")}
	}
	var with []*Daemon
	for i := range f.Cluster.Daemons.Value {
		if d := &f.Cluster.Daemons.Value[i]; d.Err == nil && d.Policy != nil {
			with = append(with, d)
		}
	}
	if with == nil {
		return nil, []Result{na("it is not known what is in force, see policy.drift")}
	}
	return with, nil
}

func judgeDrift(f *Facts) []Result {
	const what = "metrics of plugins and webhooks"
	asked := f.Cluster.Daemons
	if asked.Err != nil {
		return []Result{f.unasked(what, asked.Err)}
	}
	if len(asked.Value) == 0 {
		return []Result{na("no plugin or webhook runs in the namespace %s", f.Cluster.Namespace)}
	}
	var results []Result
	var deaf []string
	var why error
	for i := range asked.Value {
		switch d := &asked.Value[i]; {
		case d.Err != nil:
			deaf, why = append(deaf, d.String()), d.Err
		case d.Policy == nil:
			results = append(results, fail("see its /readyz and its log for what is wrong with --policy", "%s has no policy in force, and grants nothing", d))
		}
	}
	with, none := f.deciding()
	if none == nil {
		results = append(results, drift(with)...)
	}
	switch {
	case len(deaf) == len(asked.Value):
		return []Result{f.unasked(what, why)}
	case deaf != nil:
		results = append(results, na("%s could not be asked: %s", plural(len(deaf), "daemon"), some(deaf)))
	}
	return results
}

// drift compares what is in force.
func drift(with []*Daemon) []Result {
	groups := map[string][]*Daemon{}
	for _, d := range with {
		groups[d.Policy.String()] = append(groups[d.Policy.String()], d)
	}
	newest := slices.MaxFunc(with, func(a, b *Daemon) int { return compareInForce(a.Policy, b.Policy) }).Policy
	if len(groups) == 1 {
		return []Result{ok("%s in force in all of %s", newest, plural(len(with), "daemon"))}
	}
	since := oldest(groups[newest.String()])
	var results []Result
	for _, name := range sortedKeys(groups) {
		if name == newest.String() {
			continue
		}
		where := some(namesOf(groups[name]))
		switch old := groups[name][0].Policy; {
		case old.Serial == newest.Serial && old.BreakGlass == newest.BreakGlass:
			results = append(results, fail("find out who signed both, and publish with a higher serial", "%s decides in %s, and %s elsewhere: two bundles have one serial", old, where, newest))
		case since > settled:
			results = append(results, fail("see their /readyz and log for why they do not take the other one", "%s decides in %s, and %s elsewhere for %s", old, where, newest, since))
		default:
			results = append(results, warn("wait for --policy-poll-interval; if it stays, see their /readyz and log", "%s decides in %s, and %s elsewhere for %s", old, where, newest, since))
		}
	}
	return results
}

// compareInForce orders by what was published later: serials of break-glass bundles
// count by themselves, and such a bundle goes before the others.
func compareInForce(a, b *InForce) int {
	if a.BreakGlass != b.BreakGlass {
		if a.BreakGlass {
			return 1
		}
		return -1
	}
	return cmp.Or(cmp.Compare(a.Serial, b.Serial), strings.Compare(a.Digest, b.Digest))
}

// oldest is how long a bundle has been in force where it has been longest.
func oldest(group []*Daemon) time.Duration {
	return slices.MaxFunc(group, func(a, b *Daemon) int { return cmp.Compare(a.Policy.Age, b.Policy.Age) }).Policy.Age
}

func namesOf(group []*Daemon) []string {
	var names []string
	for _, d := range group {
		names = append(names, d.String())
	}
	return names
}

func judgeOrigin(f *Facts) []Result {
	with, none := f.deciding()
	if none != nil {
		return none
	}
	from := map[string][]*Daemon{}
	for _, d := range with {
		from[d.Policy.Origin] = append(from[d.Policy.Origin], d)
	}
	var results []Result
	for _, origin := range sortedKeys(from) {
		if origin != originSource {
			results = append(results, warn("see their /readyz and log for what is wrong with --policy", "the bundle in force came from the %s in %s", origin, some(namesOf(from[origin]))))
		}
	}
	if results == nil {
		return []Result{ok("from the source in all of %s", plural(len(with), "daemon"))}
	}
	return results
}

// floorFlag is NAMESPACE/NAME that the plugin is told of, "" if it is of none.
func (f *Facts) floorFlag() string {
	d := f.ours()
	if d == nil {
		return ""
	}
	c := plugin(d)
	for _, a := range slices.Concat(c.Command, c.Args) {
		if name, found := strings.CutPrefix(a, "--policy-floor="); found {
			return name
		}
	}
	return ""
}

func judgeFloor(f *Facts) []Result {
	asked, told := f.Cluster.Floor, f.floorFlag()
	name := f.Cluster.Namespace + "/" + FloorName
	switch {
	case asked.Err != nil:
		return []Result{f.unasked("the floor of policy", asked.Err)}
	case f.Cluster.DaemonSets.Err != nil:
		return []Result{f.unasked("whether plugins are told of a floor", f.Cluster.DaemonSets.Err)}
	case told != "" && told != name:
		return []Result{na("the plugin is told of the floor %s, which is not the chart's", told)}
	case asked.Value == nil && told == "":
		return []Result{na("the cluster has no floor of policy")}
	case asked.Value == nil:
		return []Result{fail("helm upgrade makes it anew, and the webhook fills it; find out who deleted it", "the ConfigMap %s is missing: a node that has no floor of its own grants nothing", name)}
	case told == "":
		return []Result{warn("set policy.floor.enabled=true, or take it away as docs/OPERATIONS.md says", "the ConfigMap %s is there, and no plugin is told of it", name)}
	case asked.Value.Data.Serial == "":
		return []Result{warn("the webhook fills it with the first bundle that it has in force: see its /readyz", "the ConfigMap %s has no serial yet: a node that has no floor of its own grants nothing", name)}
	}
	return f.againstFloor(asked.Value)
}

// againstFloor compares what is in force with the floor.
func (f *Facts) againstFloor(object *Floor) []Result {
	floor, err := strconv.ParseInt(object.Data.Serial, 10, 64)
	digest := object.Data.Digest
	if err != nil || floor < 1 {
		return []Result{fail("find out who wrote it; docs/OPERATIONS.md says how it is repaired", "the ConfigMap %s holds no serial: a node that has no floor of its own grants nothing", FloorName)}
	}
	with, none := f.deciding()
	if none != nil {
		return none
	}
	var there []*Daemon // where the bundle of the floor decides
	for _, d := range with {
		if d.Policy.Serial >= floor && !d.Policy.BreakGlass {
			there = append(there, d)
		}
	}
	var results []Result
	for _, d := range with {
		p := d.Policy
		switch {
		case p.BreakGlass: // its serials are others
		case p.Serial == floor && digest != "" && p.Digest != digest:
			results = append(results, fail("find out who signed both, and publish with a higher serial", "%s decides by %s, and the floor is that serial with the digest %s", d, p, digest))
		case p.Serial < floor && there != nil && oldest(there) <= settled:
			results = append(results, warn("wait for --policy-poll-interval; if it stays, see its /readyz and log", "%s decides by %s, below the floor %d", d, p, floor))
		case p.Serial < floor:
			results = append(results, fail("see its /readyz and log for why it takes no newer one: it decides by policy that was replaced", "%s decides by %s, below the floor %d", d, p, floor))
		}
	}
	if results == nil {
		return []Result{ok("the floor is serial %d, and none of %s is below", floor, plural(len(with), "daemon"))}
	}
	return results
}

func judgeBreakGlass(f *Facts) []Result {
	with, none := f.deciding()
	if none != nil {
		return none
	}
	groups := map[string][]*Daemon{}
	for _, d := range with {
		if d.Policy.BreakGlass {
			groups[d.Policy.String()] = append(groups[d.Policy.String()], d)
		}
	}
	var results []Result
	for _, name := range sortedKeys(groups) {
		results = append(results, fail("mend the regular bundle and publish it with a higher serial, which ends the emergency",
			"%s decides in %s until %s", name, some(namesOf(groups[name])), groups[name][0].Policy.NotAfter.UTC().Format(time.RFC3339)))
	}
	if results == nil {
		return []Result{ok("none is in force in %s", plural(len(with), "daemon"))}
	}
	return results
}

func judgeEnds(f *Facts) []Result {
	with, none := f.deciding()
	if none != nil {
		return none
	}
	bundles := map[string]*InForce{}
	for _, d := range with {
		bundles[d.Policy.String()] = d.Policy
	}
	var results []Result
	for _, name := range sortedKeys(bundles) {
		if p := bundles[name]; !p.BreakGlass { // its end is a good thing
			results = append(results, f.judgeEnd("the bundle of "+name, p.NotAfter))
		}
	}
	if results == nil {
		return []Result{na("only break-glass bundles are in force, see policy.break-glass")}
	}
	return results
}

func judgeCandidates(f *Facts) []Result {
	with, none := f.deciding()
	if none != nil {
		return none
	}
	var results []Result
	var compared int64
	var unloaded []string
	there := false
	for _, d := range with {
		c := d.Candidate
		switch {
		case c == nil:
			continue
		case c.Serial == 0:
			unloaded = append(unloaded, d.String())
		case c.Serial != d.Policy.Serial && c.Flips > 0:
			results = append(results, warn("portcullis policy shadow there says which of them this one would make, and whom to call", "%s has the candidate of serial %d; since it started, %d of %d decisions would have been others", d, c.Serial, c.Flips, c.Compared))
		}
		there, compared = true, compared+c.Compared
	}
	if unloaded != nil {
		results = append(results, warn("see the line policy shadow of their /readyz", "no candidate is loaded in %s", some(unloaded)))
	}
	switch {
	case !there:
		return []Result{na("no --policy-shadow is set")}
	case results == nil:
		return []Result{ok("%s compared, none would be another", plural(int(compared), "decision"))}
	}
	return results
}
