package doctor

import (
	"errors"
	"strings"
)

// ErrUnserved is the error of a socket or an address that refuses connections.
var ErrUnserved = errors.New("nobody serves it")

func pluginChecks() []Check {
	return []Check{
		{"plugin.socket", OfNode, "the CSI socket, asked GetPluginInfo and Probe as kubelet asks", "this driver answers", "FAIL: nothing is mounted or unmounted on this node", judgeSocket},
		{"plugin.version", OfNode, "the version of the plugin and of this command", "they are equal", "WARN: they differ, as in the middle of an upgrade", judgeVersion},
		{"plugin.ready", OfNode, "every line of the plugin's /readyz; on the node itself, outside the plugin's container, whoever has its network can answer instead", "the condition holds", "WARN: as there, it does not count; or nobody knows, as on the host, where a plugin with a network of its own is not at its usual address; FAIL: nothing is granted", judgeReady},
		{"providers.sockets", OfNode, "owner, mode and kind of each provider's socket, and its answer to Version", "the provider answers, and may be believed", "FAIL: its volumes are refused", judgeProviders},
		{"providers.wanted", OfNode, "the providers that classes of the cluster name", "each has a socket on this node", "WARN: pods with such classes do not start on this node", judgeWanted},
		{"node.volumes", OfNode, "the mount table, for volumes below <kubelet-root>/pods", "all are ours", "WARN: the upstream driver mounted some, which are neither protected nor rotated until their pods restart", judgeVolumes},
	}
}

func judgeSocket(f *Facts) []Result {
	p := f.Node.Plugin
	const hint = "start the plugin; kubectl -n kube-system get pods -l app=secrets-store-csi-driver -o wide shows why it does not run"
	switch {
	case p.Err != nil:
		return []Result{refused(hint, "the CSI socket "+p.Path, p.Err)}
	case p.Name != f.Driver:
		return []Result{fail("give --drivername the driver that is meant, or stop the other one", "the driver %q answers at %s, not %s", Printable(p.Name), p.Path, f.Driver)}
	case !p.Ready:
		return []Result{fail("see plugin.ready", "%s %s answers that it is not ready", Printable(p.Name), Printable(p.Version))}
	}
	return []Result{ok("%s %s answers", p.Name, Printable(p.Version))}
}

func judgeVersion(f *Facts) []Result {
	switch p := f.Node.Plugin; {
	case p.Err != nil:
		return []Result{na("no plugin answers")}
	case unmarked(p.Version) != f.Version:
		return []Result{warn("use the command of the plugin's image: kubectl exec into its pod", "the plugin is %q and this command %q", Printable(p.Version), f.Version)}
	}
	return []Result{ok("both are %s", f.Version)}
}

// unmarked is the version of a plugin without the mark of a development build,
// which is the only build metadata or the last part of it.
func unmarked(version string) string {
	for _, mark := range []string{"+insecure", ".insecure"} {
		if v, found := strings.CutSuffix(version, mark); found {
			return v
		}
	}
	return version
}

func judgeReady(f *Facts) []Result {
	ready := f.Node.Ready
	// In a pod the plugin has a network of its own, and the host another.
	if errors.Is(ready.Err, ErrUnserved) && f.Node.Plugin.Err == nil {
		return []Result{warn("run doctor in the plugin's container, or give --health-addr the address of its pod, with the port", "/readyz at %s: %v, and the plugin answers at its socket", f.Node.ReadyAddr, ready.Err)}
	}
	if ready.Err != nil {
		return []Result{refused("start the plugin, or give --health-addr its address", "/readyz at "+f.Node.ReadyAddr, ready.Err)}
	}
	var results []Result
	for _, c := range ready.Value {
		detail, hint, _ := strings.Cut(c.Detail, sep)
		if hint == "" {
			hint = "see the plugin's log"
		}
		switch c.Mark {
		case '+':
			results = append(results, ok("%s", c.Name))
		case '!':
			results = append(results, warn(hint, "%s: %s", c.Name, detail))
		default:
			results = append(results, fail(hint, "%s: %s", c.Name, detail))
		}
	}
	if results == nil {
		return []Result{fail("give --health-addr the plugin's address", "what answers at %s has no conditions of readiness", f.Node.ReadyAddr)}
	}
	return results
}

func judgeProviders(f *Facts) []Result {
	found := f.Node.Providers
	if found.Err != nil {
		return []Result{unknown("provider sockets", found.Err)}
	}
	var results []Result
	for _, p := range found.Value {
		if p.Err != nil {
			results = append(results, refused(p.Hint, p.Name+" ("+p.Path+")", p.Err))
			continue
		}
		finding := p.Name + " answers"
		if p.Runtime != "" {
			finding += " as " + p.Runtime
		}
		if p.Name == "aws" {
			finding += "; it must run with --driver-writes-secrets=true, else what it writes itself is refused"
		}
		results = append(results, ok("%s", finding))
	}
	if results == nil {
		return []Result{warn("install the provider's DaemonSet, or give its directory with --provider-dirs", "no provider has a socket in %s", some(f.Node.ProviderDirs))}
	}
	return results
}

func judgeWanted(f *Facts) []Result {
	switch {
	case f.Cluster == nil:
		return []Result{na("the cluster was not looked at")}
	case f.Cluster.Classes.Err != nil:
		return []Result{f.unasked("SecretProviderClasses", f.Cluster.Classes.Err)}
	}
	there := map[string]bool{}
	for _, p := range f.Node.Providers.Value {
		there[p.Name] = true
	}
	users := map[string][]string{}
	for _, c := range f.Cluster.Classes.Value {
		users[c.Provider] = append(users[c.Provider], c.Namespace+"/"+c.Name)
	}
	var results []Result
	for _, name := range sortedKeys(users) {
		if !there[name] {
			results = append(results, warn("install the provider on this node, or keep such pods away from it", "no socket of provider %q, which classes name: %s", Printable(name), some(users[name])))
		}
	}
	if results == nil {
		return []Result{ok("each of the %s that classes name has one", plural(len(users), "provider"))}
	}
	return results
}

func judgeVolumes(f *Facts) []Result {
	v := f.Node.Volumes
	if v.Err != nil {
		return []Result{unknown("the mount table", v.Err)}
	}
	var legacy []string
	ours := 0
	for _, m := range v.Value {
		if m.Legacy {
			legacy = append(legacy, m.Name+" of pod "+m.PodUID+f.podName(m.PodUID))
			continue
		}
		ours++
	}
	var results []Result
	for _, name := range legacy {
		results = append(results, warn("restart the pod", "volume %s was mounted by the upstream driver", name))
	}
	return append(results, ok("%s of ours mounted", plural(ours, "volume")))
}

// podName returns the name for the UID of a pod, where the cluster was asked.
func (f *Facts) podName(uid string) string {
	if f.Cluster != nil {
		for i := range f.Cluster.Pods.Value {
			if p := &f.Cluster.Pods.Value[i]; string(p.UID) == uid {
				return " (" + p.Namespace + "/" + p.Name + ")"
			}
		}
	}
	return ""
}
