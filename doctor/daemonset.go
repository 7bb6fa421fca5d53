package doctor

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
)

const (
	imageName       = "portcullis-node"
	containerName   = "secrets-store"
	defaultNodeMem  = 128 << 20 // --max-node-bytes
	baseMem         = 256 << 20
	criticalForNode = "system-node-critical"
)

func daemonSetChecks() []Check {
	return []Check{
		{"daemonset.ready", OfCluster, "the DaemonSet of the plugin, and its pods", "every pod is ready", "FAIL: there is none, or a pod is not ready, with its reason", judgeDaemonSet},
		{"daemonset.build", OfCluster, "the image of the plugin", "a release image by version or digest", "WARN: latest or no tag; FAIL: a development build, which takes unsigned policy", judgeImage},
		{"daemonset.memory", OfCluster, "the memory limit, against --max-node-bytes plus 256 MiB", "it is as large, or there is none", "WARN: one out-of-memory kill becomes a crash loop", judgeMemory},
		{"daemonset.priority", OfCluster, "the priority class", "system-node-critical", "WARN: the plugin may be evicted before the pods that it serves", judgePriority},
		{"daemonset.rival", OfCluster, "other DaemonSets of this driver, such as upstream's", "there is none", "FAIL: two drivers of one name on a node; kubelet calls one of them", judgeRival},
		{"csinode", OfCluster, "the CSINode object of each node", "it lists the driver", "WARN: pods with our volumes do not start there", judgeCSINodes},
	}
}

// plugin returns the container of the plugin, nil if that is another program.
func plugin(d *appsv1.DaemonSet) *corev1.Container {
	spec := &d.Spec.Template.Spec
	for i := range spec.Containers {
		if strings.Contains(spec.Containers[i].Image, imageName) {
			return &spec.Containers[i]
		}
	}
	return nil
}

// ours returns the DaemonSet of the plugin, nil if there is none.
func (f *Facts) ours() *appsv1.DaemonSet {
	for i := range f.Cluster.DaemonSets.Value {
		if d := &f.Cluster.DaemonSets.Value[i]; plugin(d) != nil {
			return d
		}
	}
	return nil
}

// ofDaemonSet judges the plugin's DaemonSet, if there is one.
func (f *Facts) ofDaemonSet(judge func(*appsv1.DaemonSet, *corev1.Container) []Result) []Result {
	if err := f.Cluster.DaemonSets.Err; err != nil {
		return []Result{f.unasked("DaemonSets", err)}
	}
	d := f.ours()
	if d == nil {
		return []Result{na("no DaemonSet of the plugin")}
	}
	return judge(d, plugin(d))
}

func judgeDaemonSet(f *Facts) []Result {
	if f.Cluster.DaemonSets.Err == nil && f.ours() == nil {
		return []Result{fail("install the chart", "no DaemonSet runs an image named %s", imageName)}
	}
	return f.ofDaemonSet(func(d *appsv1.DaemonSet, _ *corev1.Container) []Result {
		s := d.Status
		var results []Result
		for _, p := range f.podsOf(d) {
			if reason := notReady(p); reason != "" {
				results = append(results, fail("kubectl -n "+d.Namespace+" logs "+p.Name, "pod %s on node %s is not ready: %s", p.Name, p.Spec.NodeName, reason))
			}
		}
		name := d.Namespace + "/" + d.Name
		switch {
		case s.DesiredNumberScheduled == 0:
			results = append(results, fail("look at its nodeSelector and tolerations", "%s fits no node", name))
		case s.NumberReady < s.DesiredNumberScheduled && results == nil:
			results = append(results, fail("kubectl -n "+d.Namespace+" describe daemonset "+d.Name, "%s has %d of %d pods ready", name, s.NumberReady, s.DesiredNumberScheduled))
		case results == nil:
			results = append(results, ok("%s has %d of %d pods ready, %d of them of its newest form", name, s.NumberReady, s.DesiredNumberScheduled, s.UpdatedNumberScheduled))
		}
		return results
	})
}

// podsOf returns the pods of a DaemonSet.
func (f *Facts) podsOf(d *appsv1.DaemonSet) []*corev1.Pod {
	var list []*corev1.Pod
	for i := range f.Cluster.Pods.Value {
		p := &f.Cluster.Pods.Value[i]
		if p.Namespace != d.Namespace {
			continue
		}
		for _, o := range p.OwnerReferences {
			if o.Kind == "DaemonSet" && o.UID == d.UID && o.Name == d.Name {
				list = append(list, p)
			}
		}
	}
	return list
}

// notReady says why a pod is not ready, "" if it is.
func notReady(p *corev1.Pod) string {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return ""
		}
	}
	for _, c := range p.Status.ContainerStatuses {
		switch {
		case c.State.Waiting != nil:
			return fmt.Sprintf("%s waits: %s %s", c.Name, c.State.Waiting.Reason, Printable(c.State.Waiting.Message))
		case c.State.Terminated != nil:
			return fmt.Sprintf("%s ended: %s, exit code %d", c.Name, c.State.Terminated.Reason, c.State.Terminated.ExitCode)
		case !c.Ready:
			return c.Name + " runs and is not ready: its /readyz says why"
		}
	}
	return "phase " + string(p.Status.Phase)
}

func judgeImage(f *Facts) []Result {
	return f.ofDaemonSet(func(_ *appsv1.DaemonSet, c *corev1.Container) []Result { return []Result{judgeBuild(c.Image)} })
}

// judgeBuild judges what an image's name says of it.
func judgeBuild(image string) Result {
	base := image[strings.LastIndex(image, "/")+1:]
	name, tag, tagged := strings.Cut(base, ":")
	switch {
	case strings.Contains(base, "insecure"):
		return fail("install a release image", "%s is a development build, which takes policy that nobody signed", image)
	case strings.Contains(image, "@sha256:"):
		return ok("%s", image)
	case !tagged || tag == "latest":
		return warn("name a version or a digest", "the image %s of %s can be another one tomorrow", name, image)
	}
	return ok("%s", image)
}

func judgeMemory(f *Facts) []Result {
	return f.ofDaemonSet(func(_ *appsv1.DaemonSet, c *corev1.Container) []Result {
		budget := int64(defaultNodeMem)
		for _, a := range slices.Concat(c.Command, c.Args) {
			if v, found := strings.CutPrefix(a, "--max-node-bytes="); found {
				n, err := strconv.ParseInt(v, 10, 64)
				if err != nil {
					return []Result{warn("write it as --max-node-bytes=N", "--max-node-bytes cannot be read")}
				}
				budget = n
			}
		}
		limit, limited := c.Resources.Limits[corev1.ResourceMemory]
		need := budget + baseMem
		switch {
		case !limited:
			return []Result{ok("there is no limit; %s are enough", mebibytes(need))}
		case limit.Value() < need:
			return []Result{warn("raise the limit to that, or lower --max-node-bytes", "the limit is %s, volumes and plugin may need %s", mebibytes(limit.Value()), mebibytes(need))}
		}
		return []Result{ok("the limit is %s, volumes and plugin may need %s", mebibytes(limit.Value()), mebibytes(need))}
	})
}

func judgePriority(f *Facts) []Result {
	return f.ofDaemonSet(func(d *appsv1.DaemonSet, _ *corev1.Container) []Result {
		if class := d.Spec.Template.Spec.PriorityClassName; class != criticalForNode {
			return []Result{warn("set priorityClassName: "+criticalForNode, "the priority class is %q", class)}
		}
		return []Result{ok(criticalForNode)}
	})
}

func judgeRival(f *Facts) []Result {
	if err := f.Cluster.DaemonSets.Err; err != nil {
		return []Result{f.unasked("DaemonSets", err)}
	}
	var results []Result
	ours := f.ours()
	for i := range f.Cluster.DaemonSets.Value {
		d := &f.Cluster.DaemonSets.Value[i]
		if ours != nil && d.Namespace == ours.Namespace && d.Name == ours.Name {
			for j := range d.Spec.Template.Spec.Containers {
				if c := &d.Spec.Template.Spec.Containers[j]; strings.Contains(c.Image, "node-driver-registrar") && selfRegisters(plugin(d)) {
					results = append(results, fail("remove the container: the plugin registers itself", "a node-driver-registrar (container %s) runs beside the plugin", c.Name))
				}
			}
			continue
		}
		results = append(results, fail("follow docs/MIGRATION.md: one of them has to go", "another driver of this kind: DaemonSet %s/%s", d.Namespace, d.Name))
	}
	if results == nil {
		return []Result{ok("there is none")}
	}
	return results
}

func selfRegisters(c *corev1.Container) bool {
	return slices.ContainsFunc(slices.Concat(c.Command, c.Args), func(a string) bool { return strings.HasPrefix(a, "--kubelet-registration-path") })
}

func judgeCSINodes(f *Facts) []Result {
	asked := f.Cluster.CSINodes
	if asked.Err != nil {
		return []Result{f.unasked("CSINodes", asked.Err)}
	}
	var without []string
	for _, n := range asked.Value {
		if !slices.ContainsFunc(n.Spec.Drivers, func(d storagev1.CSINodeDriver) bool { return d.Name == f.Driver }) {
			without = append(without, n.Name)
		}
	}
	switch {
	case without != nil:
		return []Result{warn("see daemonset.ready, and kubelet.registration on that node; or keep pods with our volumes away from it", "kubelet has not registered the driver on %s", some(without))}
	case len(asked.Value) == 0:
		return []Result{warn("wait for kubelet", "there is no CSINode object")}
	}
	return []Result{ok("the driver is registered on %s", plural(len(asked.Value), "node"))}
}
