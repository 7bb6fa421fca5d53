//go:build integration

package admissionpolicy_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/portcullis-csi/portcullis/test/cluster/clustertest"
)

const (
	driver  = "secrets-store.csi.k8s.io"
	release = "portcullis-system" // the namespace of the release
	account = "secrets-store-csi-driver"
	chart   = "../../deploy/chart"
)

// publicKey is of somebody who may sign policy, without whom the chart is refused.
const publicKey = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEtDLocWFM4PWWsGA3+rufQEmKrk9p\naM1KSKholPmKoCddPWJUhCWWJsNi0Ad9eZoxnjVZhwQZBcEFREgrKI8Lbg==\n-----END PUBLIC KEY-----\n"

// render is what the chart makes of values, without what Helm alone applies: hooks
// come with hooks.
func render(t *testing.T, hooks bool, sets ...string) []*unstructured.Unstructured {
	t.Helper()
	helm, err := exec.CommandContext(t.Context(), "../../tools/tool.sh", "helm", "helm").Output()
	if err != nil {
		t.Fatalf("build helm: %v", err)
	}
	args := []string{"template", "portcullis", chart, "--namespace", release, "--kube-version", "1.37.2", "--set", "clusterName=test,policy.configMap.name=portcullis-policy", "--set-string", "policy.keys[0]=" + publicKey}
	for _, s := range sets {
		args = append(args, "--set", s)
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), strings.TrimSpace(string(helm)), args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("helm %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	var all []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(out), 4<<10)
	for {
		object := &unstructured.Unstructured{}
		if err := decoder.Decode(object); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		_, isHook := object.GetAnnotations()["helm.sh/hook"]
		if len(object.Object) > 0 && isHook == hooks {
			all = append(all, object)
		}
	}
}

// policies are the policies and bindings among rendered objects.
func policies(all []*unstructured.Unstructured) []*unstructured.Unstructured {
	return slices.DeleteFunc(all, func(o *unstructured.Unstructured) bool {
		return !strings.HasPrefix(o.GetKind(), "ValidatingAdmissionPolicy")
	})
}

func manifest(t *testing.T, all []*unstructured.Unstructured) string {
	t.Helper()
	var b strings.Builder
	for _, o := range all {
		text, err := sigsyaml.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "---\n%s", text)
	}
	return b.String()
}

// world is an API server with the chart's policies.
type world struct {
	*clustertest.Cluster
	as   *kubernetes.Clientset // may do everything, and notes warnings
	seen *warnings
}

// newWorld has namespaces for workloads and for the release.
func newWorld(t *testing.T, o clustertest.Options, sets ...string) *world {
	t.Helper()
	c := clustertest.Start(t, o)
	for _, namespace := range []string{release, "payments", "agents"} {
		c.CreateNamespace(t, namespace, nil)
	}
	config := c.Admin()
	w := &world{Cluster: c, seen: &warnings{}}
	config.WarningHandler, config.QPS = w.seen, -1
	var err error
	if w.as, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	w.install(t, sets...)
	return w
}

// install applies the policies, and waits until the API server has them in use.
func (w *world) install(t *testing.T, sets ...string) {
	t.Helper()
	w.Apply(t, manifest(t, policies(render(t, false, sets...))))
}

// String is for failures.
func (o outcome) String() string {
	return fmt.Sprintf("denied by %q, warned by %q, %v %q", o.denied, o.warned, o.other, o.texts)
}

// settles waits until the outcome of a request is this: policies come into use a
// moment after they were applied.
func (w *world) settles(t *testing.T, want outcome, request func() error) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		got := w.try(request)
		if got.matches(want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("outcome = %v, want %v", got, want)
		}
	}
}

// warnings collects what the API server warns of.
type warnings struct {
	mu   sync.Mutex
	text []string
}

// HandleWarningHeader notes a warning.
func (w *warnings) HandleWarningHeader(_ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, text)
}

func (w *warnings) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := w.text
	w.text = nil
	return text
}

// outcome is what became of a request, by the names of policies.
type outcome struct {
	denied, warned []string
	other          error    // refused for another reason
	texts          []string // of policies
}

// matches reports whether the outcome is the wanted one. Of several policies that
// deny, the API server names the first that it comes to.
func (o outcome) matches(want outcome) bool {
	if o.other != nil || !slices.Equal(o.warned, want.warned) || len(o.denied) != min(1, len(want.denied)) {
		return false
	}
	return len(o.denied) == 0 || slices.Contains(want.denied, o.denied[0])
}

// by returns the policies that denied or warned.
func (o outcome) by() []string {
	return slices.Compact(slices.Sorted(slices.Values(slices.Concat(o.denied, o.warned))))
}

var named = regexp.MustCompile(`ValidatingAdmissionPolicy '([^']+)' with binding '[^']+'(?: denied request)?: (.*)`)

// try makes a request and says what policies did.
func (w *world) try(request func() error) outcome {
	w.seen.take()
	var o outcome
	err := request()
	denied, warned := map[string]bool{}, map[string]bool{}
	note := func(text string, in map[string]bool) bool {
		m := named.FindStringSubmatch(text)
		if m == nil {
			return false
		}
		in[m[1]] = true
		o.texts = append(o.texts, m[2])
		return true
	}
	if status, ok := errors.AsType[*apierrors.StatusError](err); ok {
		matched := note(status.ErrStatus.Message, denied)
		if status.ErrStatus.Details != nil {
			for _, cause := range status.ErrStatus.Details.Causes {
				matched = note(cause.Message, denied) || matched
			}
		}
		if matched && !apierrors.IsForbidden(err) {
			o.other = fmt.Errorf("refused by policy with code %d, want 403: %w", status.ErrStatus.Code, err)
		}
		if !matched {
			o.other = err
		}
	} else if err != nil {
		o.other = err
	}
	for _, text := range w.seen.take() {
		note(text, warned)
	}
	o.denied, o.warned = slices.Sorted(maps.Keys(denied)), slices.Sorted(maps.Keys(warned))
	return o
}

// dry creates a pod without keeping it.
func (w *world) dry(t *testing.T, pod *corev1.Pod) func() error {
	return func() error {
		_, err := w.as.CoreV1().Pods(pod.Namespace).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	}
}

// tells fails unless every text is one line that names the remedy.
func tells(t *testing.T, o outcome) {
	t.Helper()
	for _, text := range o.texts {
		if !strings.Contains(text, "; hint: ") || strings.ContainsAny(text, "\n\r") || strings.Contains(text, "{{") {
			t.Errorf("text = %q, want one line with the remedy", text)
		}
	}
}

// pod is an ordinary pod with a volume of ours; each change makes it another.
func pod(namespace string, changes ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "api-0"}, Spec: corev1.PodSpec{
		ServiceAccountName: "default",
		Volumes: []corev1.Volume{{Name: "secrets", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{
			Driver: driver, ReadOnly: new(true), VolumeAttributes: map[string]string{"secretProviderClass": "db"},
		}}}},
		Containers: []corev1.Container{{Name: "main", Image: "registry.example/api:1"}},
	}}
	for _, change := range changes {
		change(p)
	}
	return p
}

func hostPath(paths ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		for _, path := range paths {
			p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{
				Name: fmt.Sprintf("node-%d", len(p.Spec.Volumes)), VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path}},
			})
		}
	}
}

func writable(p *corev1.Pod) { p.Spec.Volumes[0].CSI.ReadOnly = nil }

func readOnlyFalse(p *corev1.Pod) { p.Spec.Volumes[0].CSI.ReadOnly = new(false) }

func otherDriver(p *corev1.Pod) { p.Spec.Volumes[0].CSI.Driver = "other.csi.example" }

func noVolume(p *corev1.Pod) { p.Spec.Volumes = nil }

func hostPID(p *corev1.Pod) { p.Spec.HostPID = true }

func privileged(p *corev1.Pod) {
	p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: new(true)}
}

func privilegedInit(p *corev1.Pod) {
	p.Spec.InitContainers = append(p.Spec.InitContainers, corev1.Container{
		Name: "init", Image: "registry.example/init:1", SecurityContext: &corev1.SecurityContext{Privileged: new(true)},
	})
}

func as(serviceAccount string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.ServiceAccountName = serviceAccount }
}
