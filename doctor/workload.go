package doctor

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// kubeletRetry is the longest time after which kubelet tries an unmount again.
const kubeletRetry = 122 * time.Second

func workloadChecks() []Check {
	return []Check{
		{"pods.pending", OfCluster, "pods with our volumes that wait for a mount, with kubelet's event", "none waits", "WARN: the pod, and what the event says", judgePending},
		{"pods.terminating", OfCluster, "pods with our volumes that are being deleted, and the plugin of their node", "none waits", "FAIL: the plugin of that node is away, and nobody can unmount; WARN: it is there and the pod still waits", judgeTerminating},
		{"classes.secret-objects", OfCluster, "SecretProviderClasses with secretObjects", "none", "WARN: they are not copied to Secrets; pods read the files", judgeSecretObjects},
		{"volumes.persistent", OfCluster, "PersistentVolumes of this driver", "none", "WARN: pods that use one do not start", judgePersistent},
		{"statuses.orphaned", OfCluster, "SecretProviderClassPodStatuses, against the pods that they name", "each names a pod that exists", "WARN: the garbage collector is behind, or somebody made them by hand", judgeStatuses},
	}
}

// volumesOf names the volumes of this driver in a pod.
func (f *Facts) volumesOf(p *corev1.Pod) []string {
	var names []string
	for i := range p.Spec.Volumes {
		if v := &p.Spec.Volumes[i]; v.CSI != nil && v.CSI.Driver == f.Driver {
			names = append(names, v.Name)
		}
	}
	return names
}

// users calls each for the pods with volumes of this driver.
func (f *Facts) users(each func(p *corev1.Pod, volumes []string)) {
	for i := range f.Cluster.Pods.Value {
		p := &f.Cluster.Pods.Value[i]
		if v := f.volumesOf(p); v != nil {
			each(p, v)
		}
	}
}

func judgePending(f *Facts) []Result {
	if err := f.Cluster.Pods.Err; err != nil {
		return []Result{f.unasked("pods", err)}
	}
	says := map[string]*corev1.Event{}
	for i := range f.Cluster.Events.Value {
		e := &f.Cluster.Events.Value[i]
		uid := string(e.InvolvedObject.UID)
		if last := says[uid]; last == nil || last.LastTimestamp.Before(&e.LastTimestamp) {
			says[uid] = e
		}
	}
	var results []Result
	n := 0
	f.users(func(p *corev1.Pod, volumes []string) {
		n++
		if p.Status.Phase != corev1.PodPending || p.DeletionTimestamp != nil {
			return
		}
		name := p.Namespace + "/" + p.Name
		if e := says[string(p.UID)]; e != nil && mentions(e.Message, volumes) {
			text, hint, found := strings.Cut(e.Message, sep)
			if !found {
				hint = mountHint(e.Message)
			}
			results = append(results, warn(hint, "pod %s on %s waits for its volume: %s", name, p.Spec.NodeName, text))
			return
		}
		if age := f.Now.Sub(p.CreationTimestamp.Time); age > kubeletRetry {
			results = append(results, warn("kubectl -n "+p.Namespace+" describe pod "+p.Name, "pod %s has been pending for %s, with no event of its volume", name, age.Truncate(time.Second)))
		}
	})
	if err := f.Cluster.Events.Err; err != nil {
		results = append(results, f.unasked("events", err))
	}
	if results == nil {
		return []Result{ok("%s with our volumes, none waits for a mount", plural(n, "pod"))}
	}
	return results
}

// mentions reports whether an event is about one of the volumes: kubelet quotes
// their names.
func mentions(message string, volumes []string) bool {
	for _, v := range volumes {
		if strings.Contains(message, `"`+v+`"`) || strings.Contains(message, v) {
			return true
		}
	}
	return false
}

// mountHint says what to do about kubelet's own words.
func mountHint(message string) string {
	switch {
	case strings.Contains(message, "not found in the list of registered CSI drivers"):
		return "start the plugin on that node, and see kubelet.registration there"
	case strings.Contains(message, "connection refused"), strings.Contains(message, "no such file"):
		return "start the plugin on that node"
	case strings.Contains(message, "no CSIDriver object"):
		return "apply the chart's CSIDriver object"
	}
	return "see docs/OPERATIONS.md, when something fails"
}

func judgeTerminating(f *Facts) []Result {
	if err := f.Cluster.Pods.Err; err != nil {
		return []Result{f.unasked("pods", err)}
	}
	served := f.servedNodes()
	var results []Result
	f.users(func(p *corev1.Pod, _ []string) {
		if p.DeletionTimestamp == nil || p.Spec.NodeName == "" {
			return
		}
		name, node := p.Namespace+"/"+p.Name, p.Spec.NodeName
		over := f.Now.Sub(p.DeletionTimestamp.Time) // the timestamp has the grace period in it
		switch {
		case served != nil && !served[node]:
			results = append(results, fail(fmt.Sprintf("bring the plugin back on node %s; kubelet tries again within %.0f s. Do not force the deletion: the volume would stay mounted", node, kubeletRetry.Seconds()),
				"pod %s is Terminating on node %s, whose plugin is absent or not ready", name, node))
		case over > kubeletRetry:
			results = append(results, warn("see the plugin's log on that node, and kubelet's: something else may hold the pod, such as a finalizer", "pod %s on node %s is Terminating, %s beyond its grace period", name, node, over.Truncate(time.Second)))
		}
	})
	if results == nil {
		return []Result{ok("none waits for an unmount")}
	}
	return results
}

// servedNodes are the nodes with a plugin that is ready; nil if nobody knows.
func (f *Facts) servedNodes() map[string]bool {
	if f.Cluster.DaemonSets.Err != nil {
		return nil
	}
	served := map[string]bool{}
	if d := f.ours(); d != nil {
		for _, p := range f.podsOf(d) {
			if notReady(p) == "" {
				served[p.Spec.NodeName] = true
			}
		}
	}
	return served
}

func judgeSecretObjects(f *Facts) []Result {
	asked := f.Cluster.Classes
	if asked.Err != nil {
		return []Result{f.unasked("SecretProviderClasses", asked.Err)}
	}
	var results []Result
	for _, c := range asked.Value {
		if c.SecretObjects > 0 {
			results = append(results, warn("have pods read the files of the volume, and remove secretObjects", "class %s/%s has secretObjects, which are not copied to Secrets", c.Namespace, c.Name))
		}
	}
	if results == nil {
		return []Result{ok("%d SecretProviderClasses, none with secretObjects", len(asked.Value))}
	}
	return results
}

func judgePersistent(f *Facts) []Result {
	asked := f.Cluster.Volumes
	if asked.Err != nil {
		return []Result{f.unasked("PersistentVolumes", asked.Err)}
	}
	var results []Result
	for i := range asked.Value {
		if v := &asked.Value[i]; v.Spec.CSI != nil && v.Spec.CSI.Driver == f.Driver {
			results = append(results, warn("delete it and use an inline csi volume in the pod", "PersistentVolume %s names this driver, which has no persistent volumes", v.Name))
		}
	}
	if results == nil {
		return []Result{ok("there is none")}
	}
	return results
}

func judgeStatuses(f *Facts) []Result {
	asked := f.Cluster.Statuses
	switch {
	case asked.Err != nil:
		return []Result{f.unasked("SecretProviderClassPodStatuses", asked.Err)}
	case f.Cluster.Pods.Err != nil:
		return []Result{f.unasked("pods", f.Cluster.Pods.Err)}
	}
	there := map[string]bool{}
	for i := range f.Cluster.Pods.Value {
		p := &f.Cluster.Pods.Value[i]
		there[p.Namespace+"/"+p.Name+"/"+string(p.UID)] = true
	}
	var orphans []string
	for _, s := range asked.Value {
		if !there[s.Namespace+"/"+s.Pod+"/"+s.PodUID] {
			orphans = append(orphans, s.Namespace+"/"+s.Name)
		}
	}
	if orphans != nil {
		return []Result{warn("wait for the garbage collector; delete those that stay", "%d of %d belong to no pod: %s", len(orphans), len(asked.Value), some(orphans))}
	}
	return []Result{ok("%d, each of a pod that exists", len(asked.Value))}
}
