package doctor

// Area is a part that doctor looks at.
type Area string

// The areas.
const (
	OfNode    Area = "node"
	OfCluster Area = "cluster"
)

// Check is one question, with what its answers mean.
type Check struct {
	ID    string
	Area  Area
	Looks string // at what
	Good  string // what OK means
	Bad   string // what WARN and FAIL mean
	judge func(*Facts) []Result
}

// Checks returns all checks, in the order in which they are printed.
func Checks() []Check {
	var all []Check
	for _, list := range [][]Check{kernelChecks(), kubeletChecks(), pluginChecks(), policyChecks(), objectChecks(), daemonSetChecks(), workloadChecks(), admissionChecks(), webhookChecks(), inForceChecks()} {
		all = append(all, list...)
	}
	return all
}

// Run judges the facts.
func Run(f *Facts) Report {
	r := Report{Parts: []Part{
		part(OfNode, f.Node != nil, nodeDetail(f), f.NodeWhy),
		part(OfCluster, f.Cluster != nil, clusterDetail(f), f.ClusterWhy),
	}, Results: []Result{}}
	for _, c := range Checks() {
		if c.Area == OfNode && f.Node == nil || c.Area == OfCluster && f.Cluster == nil {
			continue
		}
		r.Results = append(r.Results, c.run(f)...)
	}
	return r
}

func part(name Area, looked bool, detail, why string) Part {
	if !looked {
		detail = why
	}
	return Part{Name: name, Looked: looked, Detail: Printable(detail)}
}

func nodeDetail(f *Facts) string {
	if f.Node == nil {
		return ""
	}
	who := "as root"
	if !f.Node.Root {
		who = "not as root, so that some checks know less"
	}
	return f.NodeName + " with the kubelet root " + f.Node.Kubelet.Root + ", " + who
}

func clusterDetail(f *Facts) string {
	if f.Cluster == nil {
		return ""
	}
	return f.Cluster.Host
}

// run judges, and bounds what is said.
func (c Check) run(f *Facts) []Result {
	results := c.judge(f)
	if more := len(results) - maxPerCheck; more > 0 {
		worst := results[0].Status
		for _, r := range results {
			worst = graver(worst, r.Status)
		}
		results = append(results[:maxPerCheck:maxPerCheck], Result{Status: worst, Finding: plural(more, "more result"), Hint: "deal with those above first"})
	}
	for i := range results {
		results[i].Check = c.ID
		results[i].Finding, results[i].Hint = Printable(results[i].Finding), Printable(results[i].Hint)
	}
	return results
}

func graver(a, b Status) Status {
	rank := map[Status]int{NA: 0, OK: 1, Warn: 2, Fail: 3}
	if rank[b] > rank[a] {
		return b
	}
	return a
}
