package doctor

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/portcullis-csi/portcullis/driver/identity"
)

// ErrForbidden is the error of an answer that the account may not have.
var ErrForbidden = errors.New("this account may not ask for it; hint: run doctor with --kubeconfig of an administrator")

// ErrNotServed is the error of a resource that the cluster does not have.
var ErrNotServed = errors.New("the API server does not serve it")

// definitions are the CRDs and the fields of v1 that the plugin, and tools for the
// upstream driver, read and write.
func definitions() map[string][]string {
	return map[string][]string{
		"secretproviderclasses.secrets-store.csi.x-k8s.io":          {"spec.provider", "spec.parameters", "spec.secretObjects"},
		"secretproviderclasspodstatuses.secrets-store.csi.x-k8s.io": {"status.mounted", "status.objects", "status.podName", "status.secretProviderClassName", "status.targetPath"},
	}
}

func objectChecks() []Check {
	return []Check{
		{"csidriver.fields", OfCluster, "the CSIDriver object", "as the chart has it", "FAIL: nothing is granted, or pods do not start; WARN: less protection than there could be", judgeDriverObject},
		{"csidriver.audiences", OfCluster, "tokenRequests of the CSIDriver object", "a list; every provider that is called gets a token of each audience that policy allows", "n/a: there is none", judgeAudiences},
		{"crds", OfCluster, "the definitions of the two kinds", "v1 is served, with the fields that are read and written", "FAIL: nothing is granted, or no status is written", judgeDefinitions},
		{"rbac.needed", OfCluster, "the rights of the plugin's account", "it has every one that it uses", "FAIL: something is not done, as OPERATIONS.md says of each right", judgeNeeded},
		{"rbac.excess", OfCluster, "rights of the plugin's account that it must not have: Secrets, ConfigMaps, pods to create, tokens", "it has none", "WARN: whoever steals the account gains more than the plugin needs", judgeExcess},
		{"serviceaccount", OfCluster, "the plugin's service account", "it is there", "FAIL: the DaemonSet makes no pod", judgeServiceAccount},
	}
}

// unasked is the result of a question that the API server did not answer. An
// account within the cluster, as the plugin's own, has few rights by design.
func (f *Facts) unasked(what string, err error) Result {
	if errors.Is(err, ErrForbidden) && f.Cluster.Host == InCluster {
		return na("%s: not looked at, since the service account of this pod may not; run doctor with --kubeconfig of an administrator", what)
	}
	if errors.Is(err, ErrNotServed) {
		return na("%s: the API server does not serve them", what)
	}
	return unknown(what, err)
}

// InCluster is the Host of a cluster that is asked as a pod of it.
const InCluster = "as a pod of the cluster"

func judgeDriverObject(f *Facts) []Result {
	object := f.Cluster.DriverObject
	if object.Err != nil {
		return []Result{f.unasked("the CSIDriver object", object.Err)}
	}
	var results []Result
	for _, p := range identity.CheckDriverObject(object.Value) {
		text := (&identity.DriverObjectError{Field: p.Field, Problem: p.Problem}).Error()
		if p.Severity == identity.SeverityWeak {
			results = append(results, warn(p.Remedy, "%s", text))
			continue
		}
		results = append(results, fail(p.Remedy, "%s", text))
	}
	if results == nil {
		return []Result{ok("all fields are as the chart has them")}
	}
	return results
}

func judgeAudiences(f *Facts) []Result {
	object := f.Cluster.DriverObject
	if object.Err != nil || object.Value == nil {
		return []Result{na("no CSIDriver object was read")}
	}
	var audiences []string
	for _, r := range object.Value.Spec.TokenRequests {
		audiences = append(audiences, cmp.Or(r.Audience, "(that of the API server)"))
	}
	if audiences == nil {
		return []Result{na("there are none")}
	}
	if slices.Contains(audiences, "(that of the API server)") {
		return []Result{warn("ask for an audience of its own: a provider could use this one at the API server as the pod", "an audience is that of the API server: %s", some(audiences))}
	}
	return []Result{ok("%s: a provider gets a token of each, unless policy narrows it with audiences of the grant", some(audiences))}
}

func judgeDefinitions(f *Facts) []Result {
	asked := f.Cluster.Definitions
	if asked.Err != nil {
		return []Result{f.unasked("CustomResourceDefinitions", asked.Err)}
	}
	there := map[string]Definition{}
	for _, d := range asked.Value {
		there[d.Name] = d
	}
	var results []Result
	wanted := definitions()
	for _, name := range sortedKeys(wanted) {
		d, found := there[name]
		var missing []string
		for _, field := range wanted[name] {
			if !d.Fields[field] {
				missing = append(missing, field)
			}
		}
		const hint = "apply the CRDs of the chart"
		switch {
		case !found:
			results = append(results, fail(hint, "%s is not installed", name))
		case !slices.Contains(d.Served, "v1"):
			results = append(results, fail(hint, "%s does not serve v1 but %s", name, some(d.Served)))
		case !d.Established:
			results = append(results, fail("see kubectl describe crd "+name, "%s is not established", name))
		case missing != nil:
			results = append(results, fail(hint, "%s lacks fields in v1: %s", name, some(missing)))
		default:
			results = append(results, ok("%s serves %s", name, some(d.Served)))
		}
	}
	return results
}

// String is the right as kubectl auth can-i takes it.
func (r Right) String() string {
	what := r.Path
	if what == "" {
		what = r.Resource
		if r.Group != "" {
			what += "." + r.Group
		}
		if r.Name != "" {
			what += "/" + r.Name
		}
	}
	return r.Verb + " " + what
}

func judgeNeeded(f *Facts) []Result {
	return f.judgeRights(true, "it has all %d that it needs", func(names []string) Result {
		return fail("apply the role and binding of the chart", "the account %s/%s may not: %s", f.Cluster.Namespace, f.Cluster.Account, strings.Join(names, ", "))
	})
}

func judgeExcess(f *Facts) []Result {
	return f.judgeRights(false, "it has none of %d that were asked for", func(names []string) Result {
		return warn("find the binding that grants it, as with kubectl auth can-i --list --as=system:serviceaccount:"+f.Cluster.Namespace+":"+f.Cluster.Account, "the account may also: %s", strings.Join(names, ", "))
	})
}

// judgeRights looks for rights that are not as they should be.
func (f *Facts) judgeRights(needed bool, good string, bad func([]string) Result) []Result {
	asked := f.Cluster.Rights
	if asked.Err != nil {
		return []Result{f.unasked("the rights of the plugin's account", asked.Err)}
	}
	n, wrong := 0, []string(nil)
	for _, r := range asked.Value {
		if r.Needed != needed {
			continue
		}
		n++
		if r.Allowed != needed {
			wrong = append(wrong, r.String())
		}
	}
	if wrong != nil {
		return []Result{bad(wrong)}
	}
	return []Result{ok(good, n)}
}

func judgeServiceAccount(f *Facts) []Result {
	a := f.Cluster.ServiceAccount
	name := f.Cluster.Namespace + "/" + f.Cluster.Account
	switch {
	case a.Err != nil:
		return []Result{f.unasked("the service account", a.Err)}
	case a.Value == nil:
		return []Result{fail("install the chart, or give --namespace", "the service account %s is not in the cluster", name)}
	}
	return []Result{ok("%s is there", name)}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
