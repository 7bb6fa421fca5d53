//go:build e2e

package e2e_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// How long a pod takes from kubectl apply until it is ready, without and with a
// volume of ours: a pair, measured in turns, that only says what it is.
func TestTimeUntilAPodIsReady(t *testing.T) {
	const rounds = 8
	w := theWorld(t)
	namespace := w.namespace("latency")
	var without, with []time.Duration
	for round := range rounds {
		plain := pod(namespace, fmt.Sprintf("without-%d", round))
		plain.Spec.Volumes, plain.Spec.Containers[0].VolumeMounts = nil, nil
		without = append(without, w.timed(plain))
		with = append(with, w.timed(pod(namespace, fmt.Sprintf("with-%d", round))))
	}
	slices.Sort(without)
	slices.Sort(with)
	median := func(d []time.Duration) int64 { return (d[rounds/2-1] + d[rounds/2]).Milliseconds() / 2 }
	t.Logf("ready: without %d ms, with %d ms", median(without), median(with))
	t.Logf("from %v to %v without, from %v to %v with", without[0], without[rounds-1], with[0], with[rounds-1])
}

// timed applies a pod, says after which time it was ready, and deletes it.
func (w *world) timed(p *corev1.Pod) time.Duration {
	w.Helper()
	manifest, err := json.Marshal(p)
	if err != nil {
		w.Fatal(err)
	}
	watch, err := w.client.CoreV1().Pods(p.Namespace).Watch(w.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + p.Name})
	if err != nil {
		w.Fatal(err)
	}
	defer watch.Stop()
	began := time.Now()
	w.apply(string(manifest))
	limit := time.After(time.Minute)
	for {
		select {
		case <-limit:
			w.Fatalf("pod %s is not ready within a minute: %s", p.Name, w.events(w.now(p)))
		case event, open := <-watch.ResultChan():
			now, isPod := event.Object.(*corev1.Pod)
			if !open || !isPod {
				w.Fatalf("the watch of pod %s ended: %+v", p.Name, event)
			}
			if !isReady(now) {
				continue
			}
			took := time.Since(began).Round(time.Millisecond)
			w.kubectl("delete", "pod", "-n", p.Namespace, p.Name, "--wait=false")
			return took
		}
	}
}
