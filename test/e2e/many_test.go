//go:build e2e

package e2e_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	manyPods = 50
	stateDir = "/var/lib/portcullis"
)

// Many pods at once: each starts, the plugin stays within what it said that it
// needs, and when they are gone nothing of them is left on the node or in the
// cluster.
func TestP12FiftyPodsAtOnceLeaveNothing(t *testing.T) {
	w := theWorld(t)
	namespace := w.namespace("many")
	plugin := w.plugin()
	memory, used := w.memory(plugin), w.metric(plugin, "portcullis_volume_budget_used_bytes")

	began := time.Now()
	pods := w.createMany(namespace)
	times := w.whenReady(namespace, began)
	t.Logf("%d pods ready: min %v, median %v, max %v", len(times), times[0], times[len(times)/2], times[len(times)-1])
	for _, p := range []*corev1.Pod{pods[0], pods[manyPods/2], pods[manyPods-1]} {
		w.reads(p, "/secrets/password", "first")
		if !w.recorded(p) {
			t.Errorf("volumes.db has no record of pod %s", p.Name)
		}
	}
	if n := len(w.mounts("/volumes/kubernetes.io~csi/secrets/mount")); n < manyPods {
		t.Fatalf("the node has %d volumes for %d pods", n, manyPods)
	}
	now, budget := w.memory(plugin), w.metric(plugin, "portcullis_volume_budget_used_bytes")-used
	t.Logf("the plugin's memory: %d KiB before, %d KiB with %d volumes; they take %d KiB of the budget", memory>>10, now>>10, manyPods, int(budget)>>10)
	if limit := plugin.Spec.Containers[0].Resources.Limits.Memory().Value(); now <= memory || now >= limit/2 {
		t.Errorf("the plugin has %d bytes of %d, and had %d", now, limit, memory)
	}
	if budget < manyPods*4096 || budget > manyPods*64<<10 {
		t.Errorf("%d volumes take %v bytes of the budget, want one to 16 pages each", manyPods, budget)
	}
	if n := w.restarts(plugin, "secrets-store"); n != 0 {
		t.Errorf("the plugin restarted %d times", n)
	}
	w.eventually(time.Minute, "a status object for each pod", func() error {
		if n := len(w.statuses(namespace)); n != manyPods {
			return fmt.Errorf("there are %d", n)
		}
		return nil
	})

	began = time.Now()
	w.kubectl("delete", "pods", "-n", namespace, "--all", "--wait=true", "--timeout=120s")
	t.Logf("%d pods gone after %v", manyPods, time.Since(began).Round(time.Millisecond))
	for _, p := range pods {
		w.leftNothing(p)
	}
	w.eventually(time.Minute, "no status object", func() error {
		if left := w.statuses(namespace); len(left) != 0 {
			return fmt.Errorf("there are %q", left)
		}
		return nil
	})
	w.eventually(time.Minute, "the budget is as before", func() error {
		if now := w.metric(plugin, "portcullis_volume_budget_used_bytes"); now > used {
			return fmt.Errorf("%v bytes are used, before %v", now, used)
		}
		return nil
	})
	if n := w.restarts(plugin, "secrets-store"); n != 0 {
		t.Errorf("the plugin restarted %d times", n)
	}
}

// createMany makes the pods, all at once.
func (w *world) createMany(namespace string) []*corev1.Pod {
	w.Helper()
	pods, errs := make([]*corev1.Pod, manyPods), make([]error, manyPods)
	var group sync.WaitGroup
	for i := range manyPods {
		group.Go(func() {
			pods[i], errs[i] = w.client.CoreV1().Pods(namespace).Create(w.Context(), pod(namespace, "app-"+strconv.Itoa(i)), metav1.CreateOptions{})
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		w.Fatal(err)
	}
	return pods
}

// whenReady waits until all of them are ready, and says after which time each
// was, sorted.
func (w *world) whenReady(namespace string, began time.Time) []time.Duration {
	w.Helper()
	seen := map[string]time.Duration{}
	w.eventually(5*time.Minute, "all pods are ready", func() error {
		list, err := w.client.CoreV1().Pods(namespace).List(w.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, p := range list.Items {
			if _, known := seen[p.Name]; !known && isReady(&p) {
				seen[p.Name] = time.Since(began).Round(time.Millisecond)
			}
		}
		if len(seen) != manyPods {
			return fmt.Errorf("%d of %d are", len(seen), manyPods)
		}
		return nil
	})
	var times []time.Duration
	for _, d := range seen {
		times = append(times, d)
	}
	slices.Sort(times)
	return times
}

func isReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// leftNothing waits until nothing on the node is of a pod that is gone: no mount,
// no directory of kubelet's, no record of ours.
func (w *world) leftNothing(p *corev1.Pod) {
	w.Helper()
	w.eventually(time.Minute, "nothing is left of pod "+p.Name, func() error {
		if left := w.mounts(string(p.UID)); len(left) != 0 {
			return fmt.Errorf("the mounts %q", left)
		}
		if _, err := os.Lstat(w.lab.Path("/var/lib/kubelet/pods/" + string(p.UID))); !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(errors.New("kubelet's directory of it is there"), err)
		}
		if w.recorded(p) {
			return errors.New("a record in volumes.db")
		}
		return nil
	})
}

// recorded reports whether the plugin remembers a volume of a pod.
func (w *world) recorded(p *corev1.Pod) bool {
	w.Helper()
	records, err := os.ReadFile(w.lab.Path(filepath.Join(stateDir, "volumes.db")))
	if err != nil {
		w.Fatal(err)
	}
	return strings.Contains(string(records), string(p.UID))
}

// statuses are the names of a namespace's status objects.
func (w *world) statuses(namespace string) []string {
	w.Helper()
	return strings.Fields(w.kubectl("get", "secretproviderclasspodstatuses", "-n", namespace, "-o", "jsonpath={.items[*].metadata.name}"))
}

// metric is the sum of a metric of the plugin.
func (w *world) metric(plugin *corev1.Pod, name string) float64 {
	w.Helper()
	client := http.Client{Transport: &http.Transport{DialContext: w.lab.Dial, DisableKeepAlives: true}, Timeout: 10 * time.Second}
	response, err := client.Get("http://" + plugin.Status.PodIP + ":8095/metrics")
	if err != nil {
		w.Fatal(err)
	}
	defer response.Body.Close()
	var sum float64
	found := false
	text, err := io.ReadAll(response.Body)
	if err != nil {
		w.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		series, value, ok := strings.Cut(line, " ")
		if series, _, _ = strings.Cut(series, "{"); !ok || series != name {
			continue
		}
		n, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
		if err != nil {
			w.Fatal(err)
		}
		sum, found = sum+n, true
	}
	if !found {
		w.Fatalf("the plugin has no metric %s", name)
	}
	return sum
}

// memory is what the cgroup of a pod's containers is charged with.
func (w *world) memory(p *corev1.Pod) int64 {
	w.Helper()
	var found []string
	for _, file := range []string{"memory.current", "memory.usage_in_bytes"} {
		for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/memory"} {
			for _, class := range []string{"", "burstable", "besteffort"} {
				matches, err := filepath.Glob(w.lab.Path(filepath.Join(root, "*", "kubepods", class, "pod"+string(p.UID), file)))
				if err != nil {
					w.Fatal(err)
				}
				found = append(found, matches...)
			}
		}
	}
	if len(found) != 1 {
		w.Fatalf("pod %s has the memory cgroups %q, want one", p.Name, found)
	}
	text, err := os.ReadFile(found[0])
	if err != nil {
		w.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		w.Fatal(err)
	}
	return n
}
