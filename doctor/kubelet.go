package doctor

import (
	"fmt"
	"slices"
	"strings"
)

// upstreamVersions are Kubernetes minors between which some patch releases, not
// all, carry the repair of kubernetes#121271, pull request 139045.
const (
	firstPicked   = 34
	firstRepaired = 37
)

func kubeletChecks() []Check {
	return []Check{
		{"kubelet.pods", OfNode, "<kubelet-root>/pods", "it is there", "FAIL: the plugin does not start; --kubelet-root is not kubelet's --root-dir", judgePods},
		{"kubelet.shared", OfNode, "the propagation of the mount that holds <kubelet-root>/pods", "shared: pods see what the plugin mounts", "FAIL: they do not", judgeShared},
		{"kubelet.registry", OfNode, "kubelet's plugins_registry directory", "it is there", "FAIL: kubelet cannot learn of the plugin", judgeRegistry},
		{"kubelet.registration", OfNode, "the registration socket, asked as kubelet asks", "it names this driver and its CSI socket", "FAIL: kubelet cannot register the plugin", judgeRegistration},
		{"kubelet.version", OfCluster, "the kubelet version of each node, for the end of a republish that fails (kubernetes#121271)", "the mount of a pod survives it", "WARN: an older kubelet removes a live mount when a driver fails a republish with a final error. Portcullis never does, other drivers on the node may", judgeKubeletVersion},
	}
}

func judgePods(f *Facts) []Result {
	if err := f.Node.Kubelet.Pods; err != nil {
		return []Result{refused("give --kubelet-root kubelet's own --root-dir", "the pods directory of "+f.Node.Kubelet.Root+" cannot be used", err)}
	}
	return []Result{ok("%s/pods is there", f.Node.Kubelet.Root)}
}

func judgeShared(f *Facts) []Result {
	switch s := f.Node.Kubelet.Shared; {
	case s.Err != nil:
		return []Result{unknown("the mount of the pods directory", s.Err)}
	case !s.Value:
		return []Result{fail("on the node: mount --make-rshared / (or the mount that holds the kubelet root); in the plugin's container: mountPropagation: Bidirectional", "the mount that holds %s/pods is not shared", f.Node.Kubelet.Root)}
	}
	return []Result{ok("the mount is shared")}
}

func judgeRegistry(f *Facts) []Result {
	if err := f.Node.Kubelet.Registry; err != nil {
		return []Result{refused("mount kubelet's plugins_registry there, or give --registration-dir", f.Node.Kubelet.RegistryDir+" cannot be used", err)}
	}
	return []Result{ok("%s is there", f.Node.Kubelet.RegistryDir)}
}

func judgeRegistration(f *Facts) []Result {
	r := f.Node.Registration
	const hint = "start the plugin with --kubelet-registration-path, or its node-driver-registrar"
	switch {
	case r.Err != nil:
		return []Result{refused(hint, "the registration socket "+r.Path, r.Err)}
	case r.Name != f.Driver:
		return []Result{fail("run one driver per socket", "the socket %s names the driver %q, not %s", r.Path, Printable(r.Name), f.Driver)}
	case r.Type != "CSIPlugin":
		return []Result{fail(hint, "the socket registers a %q, not a CSIPlugin", Printable(r.Type))}
	case !strings.HasPrefix(r.Endpoint, "/"):
		return []Result{fail("give --kubelet-registration-path the CSI socket as kubelet sees it", "the endpoint is %q, which is no absolute path", Printable(r.Endpoint))}
	case !slices.Contains(r.Versions, "1.0.0"):
		return []Result{warn(hint, "the versions are %q; kubelet looks for a 1.x.y, usually 1.0.0", r.Versions)}
	}
	return []Result{ok("kubelet is told of %s", r.Endpoint)}
}

func judgeKubeletVersion(f *Facts) []Result {
	nodes := f.Cluster.Nodes
	if nodes.Err != nil {
		return []Result{f.unasked("nodes", nodes.Err)}
	}
	byVersion := map[string][]string{}
	for _, n := range nodes.Value {
		v := n.Status.NodeInfo.KubeletVersion
		byVersion[v] = append(byVersion[v], n.Name)
	}
	var results []Result
	for _, v := range sortedKeys(byVersion) {
		on := fmt.Sprintf("kubelet %s on %s", v, some(byVersion[v]))
		_, minor, found := release(v)
		switch {
		case !found:
			results = append(results, warn("see kubectl get nodes", "%s: the version cannot be read", on))
		case minor >= firstRepaired:
			results = append(results, ok("%s has the repair", on))
		case minor >= firstPicked:
			results = append(results, ok("%s: some patch releases of it have the repair; look for 139045 in its changelog", on))
		default:
			results = append(results, warn("upgrade kubelet", "%s removes a live mount when a driver fails a republish with a final error", on))
		}
	}
	if results == nil {
		return []Result{warn("see kubectl get nodes", "there are no nodes")}
	}
	return results
}
