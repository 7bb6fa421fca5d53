//go:build integration

package admissionpolicy_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/portcullis-csi/portcullis/test/cluster/clustertest"
)

const floor = "portcullis-policy-floor"

// floorWorld is a cluster with the floor of the chart, and the rights for it.
type floorWorld struct {
	*world
	webhook, node *kubernetes.Clientset
}

func newFloorWorld(t *testing.T) *floorWorld {
	t.Helper()
	sets := []string{"webhook.enabled=true", "policy.floor.enabled=true"}
	w := newWorld(t, clustertest.Options{}, sets...)
	for _, o := range render(t, false, sets...) {
		switch o.GetKind() {
		case "ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "ConfigMap":
			w.Apply(t, manifest(t, []*unstructured.Unstructured{o}))
		}
	}
	f := &floorWorld{world: w}
	for name, c := range map[string]**kubernetes.Clientset{"portcullis-webhook": &f.webhook, account: &f.node} {
		config := w.As(t, release, name)
		config.WarningHandler, config.QPS = w.seen, -1
		var err error
		if *c, err = kubernetes.NewForConfig(config); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// set writes data with what is there, as somebody.
func (f *floorWorld) set(t *testing.T, as *kubernetes.Clientset, data map[string]string, changes ...func(*corev1.ConfigMap)) func() error {
	return func() error {
		live, err := f.Client.CoreV1().ConfigMaps(release).Get(t.Context(), floor, metav1.GetOptions{})
		if err != nil {
			return err
		}
		live.Data = data
		for _, change := range changes {
			change(live)
		}
		_, err = as.CoreV1().ConfigMaps(release).Update(t.Context(), live, metav1.UpdateOptions{})
		return err
	}
}

// dryDelete deletes the floor without doing it: the policy may not be in use yet.
func (f *floorWorld) dryDelete(t *testing.T) func() error {
	return func() error {
		return f.as.CoreV1().ConfigMaps(release).Delete(t.Context(), floor, metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}})
	}
}

func serial(n, digit string) map[string]string {
	return map[string]string{"serial": n, "digest": "sha256:" + strings.Repeat(digit, 64)}
}

// TestFloorGoesUpwardsOnly: by the webhook, and by nobody else.
func TestFloorGoesUpwardsOnly(t *testing.T) {
	f := newFloorWorld(t)
	denied := outcome{denied: []string{floor}}
	f.settles(t, denied, f.dryDelete(t))
	for _, tt := range []struct {
		name string
		as   *kubernetes.Clientset
		data map[string]string
		want outcome
	}{
		{"nothing yet", f.webhook, map[string]string{}, outcome{}},
		{"zero", f.webhook, serial("0", "a"), denied},
		{"no number", f.webhook, serial("7x", "a"), denied},
		{"negative", f.webhook, serial("-1", "a"), denied},
		{"no decimal", f.webhook, serial("0x10", "a"), denied},
		{"too large to compare", f.webhook, serial("9223372036854775808", "a"), denied},
		{"no digest", f.webhook, map[string]string{"serial": "7"}, denied},
		{"a digest that is none", f.webhook, map[string]string{"serial": "7", "digest": "sha256:abc"}, denied},
		{"something else too", f.webhook, map[string]string{"serial": "7", "digest": "sha256:" + strings.Repeat("a", 64), "x": "y"}, denied},
		{"the first", f.webhook, serial("7", "a"), outcome{}},
		{"the same again", f.webhook, serial("7", "a"), outcome{}},
		{"the same serial, another bundle", f.webhook, serial("7", "b"), denied},
		{"lower", f.webhook, serial("6", "a"), denied},
		{"upwards, by an administrator", f.as, serial("8", "b"), denied},
		{"away, by the webhook", f.webhook, map[string]string{}, denied},
		{"away, by an administrator", f.as, nil, denied},
		{"upwards, by more digits", f.webhook, serial("10", "b"), outcome{}},
		{"lower by text, higher by number", f.webhook, serial("9", "c"), denied},
		{"the largest", f.webhook, serial("999999999999999999", "d"), outcome{}},
	} {
		got := f.try(f.set(t, tt.as, tt.data))
		if !got.matches(tt.want) {
			t.Errorf("%s: outcome = %v, want %v", tt.name, got, tt.want)
		}
		tells(t, got)
	}
	for name, change := range map[string]func(*corev1.ConfigMap){
		"frozen": func(c *corev1.ConfigMap) { c.Immutable = new(true) },
		"binary": func(c *corev1.ConfigMap) { c.BinaryData = map[string][]byte{"x": {1}} },
	} {
		for who, as := range map[string]*kubernetes.Clientset{"webhook": f.webhook, "administrator": f.as} {
			if got := f.try(f.set(t, as, serial("999999999999999999", "d"), change)); !got.matches(denied) {
				t.Errorf("%s by the %s: outcome = %v, want %v", name, who, got, denied)
			}
		}
	}
	// Helm changes labels with each version.
	if got := f.try(f.set(t, f.as, serial("999999999999999999", "d"), func(c *corev1.ConfigMap) { c.Labels["a"] = "b" })); !got.matches(outcome{}) {
		t.Errorf("labels: outcome = %v, want none", got)
	}
	if c, err := f.node.CoreV1().ConfigMaps(release).Get(t.Context(), floor, metav1.GetOptions{}); err != nil || c.Data["serial"] != "999999999999999999" {
		t.Errorf("the node plugin reads %v, %v", c, err)
	}
}

// TestFloorStays: neither deleting nor making it anew nor patching lowers it, and
// other ConfigMaps are nobody's business.
func TestFloorStays(t *testing.T) {
	f := newFloorWorld(t)
	denied := outcome{denied: []string{floor}}
	maps := f.as.CoreV1().ConfigMaps(release)
	f.settles(t, denied, f.dryDelete(t))
	if err := f.set(t, f.webhook, serial("7", "a"))(); err != nil {
		t.Fatal(err)
	}
	for name, request := range map[string]func() error{
		"delete": func() error { return maps.Delete(t.Context(), floor, metav1.DeleteOptions{}) },
		"delete all": func() error {
			return maps.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{FieldSelector: "metadata.name=" + floor})
		},
		"patch": func() error {
			_, err := maps.Patch(t.Context(), floor, types.JSONPatchType, []byte(`[{"op":"remove","path":"/data"}]`), metav1.PatchOptions{})
			return err
		},
		"apply": func() error {
			_, err := maps.Patch(t.Context(), floor, types.ApplyPatchType, []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"`+floor+`"},"data":{"serial":"1"}}`),
				metav1.PatchOptions{FieldManager: "x", Force: new(true)})
			return err
		},
	} {
		got := f.try(request)
		if !got.matches(denied) {
			t.Errorf("%s: outcome = %v, want %v", name, got, denied)
		}
		tells(t, got)
	}
	for name, c := range map[string]*corev1.ConfigMap{
		"another name":      {ObjectMeta: metav1.ObjectMeta{Namespace: release, Name: "other"}, Data: map[string]string{"serial": "1"}},
		"another namespace": {ObjectMeta: metav1.ObjectMeta{Namespace: "payments", Name: floor}, Data: map[string]string{"serial": "1"}},
	} {
		if _, err := f.as.CoreV1().ConfigMaps(c.Namespace).Create(t.Context(), c, metav1.CreateOptions{}); err != nil {
			t.Errorf("%s: %v, want that it is made", name, err)
		}
		if err := f.as.CoreV1().ConfigMaps(c.Namespace).Delete(t.Context(), c.Name, metav1.DeleteOptions{}); err != nil {
			t.Errorf("%s: %v, want that it is deleted", name, err)
		}
	}
	// On purpose: without the binding the floor goes, and what is made anew by somebody
	// else has no serial.
	if err := f.as.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().Delete(t.Context(), floor, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	f.settles(t, outcome{}, func() error { return maps.Delete(t.Context(), floor, metav1.DeleteOptions{}) })
	f.install(t, "webhook.enabled=true", "policy.floor.enabled=true")
	planted := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: floor}, Data: serial("1", "a")}
	f.settles(t, denied, func() error {
		_, err := maps.Create(t.Context(), planted, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	})
	planted.Data = nil
	if got := f.try(func() error { _, err := maps.Create(t.Context(), planted, metav1.CreateOptions{}); return err }); !got.matches(outcome{}) {
		t.Errorf("an empty one, as the chart makes: outcome = %v, want none", got)
	}
}

// TestFloorGoesWithItsNamespace: a namespace that cannot end would be there for ever.
func TestFloorGoesWithItsNamespace(t *testing.T) {
	f := newFloorWorld(t)
	maps := f.as.CoreV1().ConfigMaps(release)
	f.settles(t, outcome{denied: []string{floor}}, f.dryDelete(t))
	if err := f.as.CoreV1().Namespaces().Delete(t.Context(), release, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	// No controller runs here: what it would do is done by hand. The API server sees
	// the namespace's end a moment later.
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		got := f.try(func() error { return maps.Delete(t.Context(), floor, metav1.DeleteOptions{}) })
		if got.matches(outcome{}) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("outcome = %v, want that it is deleted", got)
		}
	}
}
