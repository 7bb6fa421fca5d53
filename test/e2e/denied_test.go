//go:build e2e

package e2e_test

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What the author of a pod reads: kubelet's words, ours, the rule, the remedy,
// and by what to find the decision in the audit log.
var patternDenied = regexp.MustCompile(`^MountVolume\.SetUp failed for volume "secrets" : rpc error: code = PermissionDenied desc = ` +
	`denied by policy: PR-001; hint: ask the owner of local://node/app/password[^;]* for a grant to service account app in namespace denied; decision [A-Z2-7]{26}$`)

// A pod that is granted nothing stays ContainerCreating, with one event that
// says why and what to do, in the same words at every try. It is not parallel:
// under another bundle it is another decision.
func TestDeniedPodSaysWhatToDo(t *testing.T) {
	w := theWorld(t)
	w.ungranted("denied")
	p := w.create(pod("denied", "app"))
	var event corev1.Event
	w.eventually(time.Minute, "one event with a count of 4", func() error {
		found := w.failures(p)
		if len(found) != 1 || found[0].Count < 4 {
			return fmt.Errorf("the events are:\n%s", w.events(p))
		}
		event = found[0]
		return nil
	})
	t.Logf("%d times: %s", event.Count, event.Message)
	if !patternDenied.MatchString(event.Message) {
		t.Errorf("the event is %q, want %s", event.Message, patternDenied)
	}
	w.plain(event.Message)
	now := w.now(p)
	if now.Status.Phase != corev1.PodPending || len(now.Status.ContainerStatuses) != 1 || now.Status.ContainerStatuses[0].State.Waiting == nil ||
		now.Status.ContainerStatuses[0].State.Waiting.Reason != "ContainerCreating" {
		t.Errorf("the pod is %+v, want ContainerCreating", now.Status)
	}
	if described := w.kubectl("describe", "pod", "-n", p.Namespace, p.Name); !strings.Contains(described, event.Message) {
		t.Errorf("kubectl describe does not say it:\n%s", described)
	}
	if len(w.volumes(p)) != 0 {
		t.Error("the denied pod has a mount")
	}
}

// What a provider says never reaches the event: its words could hold a secret.
func TestP5ProvidersWordsAreInNoEvent(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	namespace := w.namespace("absent")
	w.apply(class(namespace, "absent", "no-such-secret"))
	p := pod(namespace, "app")
	p.Spec.Volumes = []corev1.Volume{volume("secrets", "absent")}
	p = w.create(p)
	w.event(p, refusedByDriver, time.Minute)
	message := w.failures(p)[0].Message
	t.Log(message)
	w.plain(message)
	const words = "object does not exist below the root"
	if log := w.kubectl("logs", "-n", system, "-l", "app=portcullis-provider-local", "--tail=-1"); !strings.Contains(log, words) {
		t.Fatalf("the provider did not say %q:\n%s", words, log)
	}
	if strings.Contains(w.events(p), words) || !strings.Contains(message, "hint: see the provider's log on this node") {
		t.Errorf("the event repeats the provider's words, or does not say where they are: %s", message)
	}
	w.writeSecret("app/no-such-secret", "there now")
	w.ready(p, 2*time.Minute)
	w.reads(p, "/secrets/no-such-secret", "there now")
}

// Who is granted a secret later gets it, and from whom a grant is taken away
// loses it, without anybody touching the pod. This is the one parallel test that
// publishes policy.
func TestP9PolicyChangesReachPodsThatAreThere(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	w.ungranted("late")
	p := w.create(pod("late", "app"))
	w.event(p, "denied by policy: PR-001", time.Minute)
	grant := func(w *world, dir string) {
		w.writeFile(filepath.Join(dir, "portcullis/grants/late.yaml"), strings.ReplaceAll(grantOf, "NAMESPACE", "late"))
	}
	w.Cleanup(func() { w.publishPolicy(w.policy(nil)) })

	w.publishPolicy(w.policy(grant))
	published := time.Now()
	w.ready(p, 2*time.Minute)
	t.Logf("granted: the pod was ready %v after the ConfigMap changed", time.Since(published).Round(100*time.Millisecond))
	w.reads(p, "/secrets/password", "first")
	before := w.volumes(p)

	w.publishPolicy(w.policy(nil))
	published = time.Now()
	w.emptied(p, 2*time.Minute)
	took := time.Since(published)
	t.Logf("taken away: the volume was empty after %v", took.Round(100*time.Millisecond))
	if took < 10*time.Second {
		t.Errorf("one denial alone emptied the volume: it took %v, and two are ten seconds apart", took)
	}
	// Kubelet is told with its next call: the volume was emptied without one.
	w.event(p, "the mounted secrets were revoked: denied by policy: PR-001", 3*time.Minute)
	if n := w.restarts(p, "main"); n != 0 || w.now(p).Status.Phase != corev1.PodRunning {
		t.Errorf("the pod is %s after %d restarts, want it to run on", w.now(p).Status.Phase, n)
	}

	w.publishPolicy(w.policy(grant))
	published = time.Now()
	w.becomes(p, "/secrets/password", "first", 4*time.Minute)
	t.Logf("given back: the content returned after %v", time.Since(published).Round(100*time.Millisecond))
	w.reads(p, "/secrets/user", "scott")
	if after := w.volumes(p); len(after) != 1 || mountID(after[0]) != mountID(before[0]) || w.restarts(p, "main") != 0 {
		t.Errorf("the pod got another mount or was restarted: %q, before %q", after, before)
	}
}

// Whoever attaches an ephemeral container is warned, and the pod loses its
// secrets: such a container could read them without mounting anything.
func TestEphemeralContainerEmptiesTheVolume(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	p := w.started(pod(w.namespace("debugged"), "app"))
	w.reads(p, "/secrets/password", "first")
	out := w.must("", "sh", "-c", "kubectl debug -n debugged app --image=busybox:1.37 --image-pull-policy=Never --target=main --profile=general -- sleep 100000 2>&1")
	t.Log(out)
	if !strings.Contains(out, "Warning: ") || !strings.Contains(out, "portcullis-ephemeral-containers") {
		t.Errorf("kubectl debug is not warned by the admission policy: %s", out)
	}
	w.emptied(p, 2*time.Minute)
	w.event(p, "the mounted secrets were revoked: denied by policy: PR-203", 3*time.Minute)
	if n := w.restarts(p, "main"); n != 0 {
		t.Errorf("the pod restarted %d times, want it to run on", n)
	}
}

// A volume that could be written is refused when somebody makes the pod, by the
// API server.
func TestP6WritableVolumeIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	namespace := w.namespace("writable")
	for name, readOnly := range map[string]*bool{"false": new(false), "unset": nil} {
		p := pod(namespace, "app-"+name)
		p.Spec.Volumes[0].CSI.ReadOnly = readOnly
		_, err := w.client.CoreV1().Pods(namespace).Create(w.Context(), p, metav1.CreateOptions{})
		if err == nil {
			t.Fatalf("readOnly %s is accepted", name)
		}
		for _, text := range []string{"portcullis-volumes-read-only", "volume secrets", "lacks readOnly: true", "hint: add readOnly: true below csi:"} {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("readOnly %s is refused without %q: %v", name, text, err)
			}
		}
	}
}

const grantOf = `- id: e2e-NAMESPACE
  owner: e2e
  expiry: 2099-12-31
  namespaces: [NAMESPACE]
  serviceAccounts: [app]
  provider: local
  secrets: ["local://node/app/*"]
`

// refusedByDriver is in every event about a mount that the driver refused. Kubelet has
// others: it asks for a token before the API server knows that the pod is on the node.
const refusedByDriver = "rpc error: code = "

// failures are kubelet's events about mounts of a pod that the driver refused.
func (w *world) failures(p *corev1.Pod) []corev1.Event {
	w.Helper()
	list, err := w.client.CoreV1().Events(p.Namespace).List(w.Context(), metav1.ListOptions{FieldSelector: "reason=FailedMount,involvedObject.uid=" + string(p.UID)})
	if err != nil {
		w.Fatal(err)
	}
	return slices.DeleteFunc(list.Items, func(e corev1.Event) bool { return !strings.Contains(e.Message, refusedByDriver) })
}

// plain fails the test unless a text is one short line that a terminal shows as
// it is.
func (w *world) plain(text string) {
	w.Helper()
	for _, r := range text {
		if r < ' ' || r > '~' {
			w.Errorf("the text has the character %q: %q", r, text)
		}
	}
	if len(text) > 1024 {
		w.Errorf("the text has %d bytes, want 1024 at most: %s", len(text), text)
	}
}

// emptied waits until a running pod finds none of its files any more.
func (w *world) emptied(p *corev1.Pod, limit time.Duration) {
	w.Helper()
	w.eventually(limit, "the volume of pod "+p.Name+" is empty", func() error {
		out, err := w.sh(p, "main", "cat /secrets/password /secrets/user 2>&1; ls /secrets")
		if err != nil || strings.Count(out, "No such file or directory") != 2 || strings.Contains(out, "first") {
			return fmt.Errorf("it reads %q, %w", out, err)
		}
		return nil
	})
}
