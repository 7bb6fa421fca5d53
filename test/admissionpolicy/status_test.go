//go:build integration

package admissionpolicy_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/driver/podstatus"
	"github.com/portcullis-csi/portcullis/test/cluster/clustertest"
	"github.com/portcullis-csi/portcullis/test/cluster/controlplane"
)

const statusPolicy = "portcullis-status-of-own-node"

// longNode has no room in a label, and what is left of it ends in a dot.
var longNode = strings.Repeat("n", 45) + "." + strings.Repeat("node", 12) + ".example"

// statusWorld is a cluster in which plugins of several nodes write status objects.
type statusWorld struct {
	*world
	admin dynamic.NamespaceableResourceInterface
}

func newStatusWorld(t *testing.T) *statusWorld {
	t.Helper()
	w := newWorld(t, clustertest.Options{})
	w.ApplyFiles(t, filepath.Join(chart, "crds", "*.yaml"))
	for _, name := range []string{"serviceaccount", "secretproviderclasses-role", "secretproviderclasses-rolebinding"} {
		text, err := os.ReadFile(filepath.Join(chart, "files/rbac", name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		w.Apply(t, strings.ReplaceAll(string(text), "namespace: kube-system", "namespace: "+release))
	}
	s := &statusWorld{world: w}
	s.admin = s.client(t, w.Admin())
	return s
}

func (s *statusWorld) client(t *testing.T, config *rest.Config) dynamic.NamespaceableResourceInterface {
	t.Helper()
	config.QPS = -1
	c, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return c.Resource(schema.GroupVersionResource{Group: "secrets-store.csi.x-k8s.io", Version: "v1", Resource: "secretproviderclasspodstatuses"})
}

// plugin is the plugin of a node: a client with the token that kubelet would give
// its pod.
func (s *statusWorld) plugin(t *testing.T, node string) dynamic.ResourceInterface {
	t.Helper()
	if _, err := s.Client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	p := pod(release, noVolume, as(account))
	p.Name, p.Spec.NodeName = "plugin-"+node[:5]+"x", node
	return s.client(t, s.WithToken(s.BoundToken(t, s.CreatePod(t, p), controlplane.Issuer))).Namespace("payments")
}

func status(name, label string) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{"podName": "api-0"}}}
	o.SetAPIVersion("secrets-store.csi.x-k8s.io/v1")
	o.SetKind("SecretProviderClassPodStatus")
	o.SetNamespace("payments")
	o.SetName(name)
	if label != "" {
		o.SetLabels(map[string]string{spcv1.InternalNodeLabel: label})
	}
	return o
}

func create(ctx context.Context, c dynamic.ResourceInterface, o *unstructured.Unstructured) error {
	_, err := c.Create(ctx, o, metav1.CreateOptions{})
	return err
}

// TestStatusOfOwnNode: each plugin writes what is of its own node, by the node that
// the API server says its token is of, and nobody else is asked.
func TestStatusOfOwnNode(t *testing.T) {
	s := newStatusWorld(t)
	one, two, long := s.plugin(t, "node-1"), s.plugin(t, "two.example"), s.plugin(t, longNode)
	denied := outcome{denied: []string{statusPolicy}}
	// Where the policy was not in use yet, the object is in the way of the next try.
	n := 0
	s.settles(t, denied, func() error {
		n++
		return create(t.Context(), one, status(fmt.Sprintf("settle-%d", n), "two.example"))
	})
	longLabel := podstatus.NodeLabel(longNode)
	for name, tt := range map[string]struct {
		as    dynamic.ResourceInterface
		label string
		ok    bool
	}{
		"own node":                      {one, "node-1", true},
		"another's":                     {one, "two.example", false},
		"another's, the other way":      {two, "node-1", false},
		"own node with a dot":           {two, "two.example", true},
		"the beginning of another name": {one, "node-10", false},
		"no label":                      {one, "", false},
		"a long name":                   {long, longLabel, true},
		"a long name, not cut alike":    {long, longNode[:62], false},
		"a long name, no hash":          {long, longLabel[:len(longLabel)-1] + "x", false},
		"a long name, longer hash":      {long, longLabel + "0", false},
		"a long name, shorter hash":     {long, longLabel[:len(longLabel)-1], false},
		"long, label of a short one":    {long, "node-1", false},
		"short, label of a long one":    {one, longLabel, false},
	} {
		t.Run(name, func(t *testing.T) {
			object := "made-" + strings.NewReplacer(" ", "-", ",", "", "'", "").Replace(name)
			want := denied
			if tt.ok {
				want = outcome{}
			}
			got := s.try(func() error { return create(t.Context(), tt.as, status(object, tt.label)) })
			if !got.matches(want) {
				t.Errorf("outcome of create = %v, want %v", got, want)
			}
			tells(t, got)
		})
	}
	t.Run("update and delete", func(t *testing.T) { s.testOldLabels(t, one, two) })
	t.Run("no node", func(t *testing.T) { s.testNoNode(t) })
	t.Run("nobody else", func(t *testing.T) {
		for _, label := range []string{"node-1", "x", ""} {
			if got := s.try(func() error {
				return create(t.Context(), s.admin.Namespace("payments"), status("admin-"+label+"a", label))
			}); !got.matches(outcome{}) {
				t.Errorf("label %q: outcome = %v, want none: it is not the plugin", label, got)
			}
		}
	})
}

// testOldLabels: neither taking another's object over nor giving one away is a way
// around the label.
func (s *statusWorld) testOldLabels(t *testing.T, one, two dynamic.ResourceInterface) {
	for _, o := range []struct {
		as          dynamic.ResourceInterface
		name, label string
	}{{one, "ours", "node-1"}, {two, "theirs", "two.example"}, {s.admin.Namespace("payments"), "unlabelled", ""}} {
		if err := create(t.Context(), o.as, status(o.name, o.label)); err != nil {
			t.Fatal(err)
		}
	}
	denied := outcome{denied: []string{statusPolicy}}
	for _, tt := range []struct {
		name, object, label string
		want                outcome
	}{
		{"ours", "ours", "node-1", outcome{}},
		{"ours, given away", "ours", "two.example", denied},
		{"ours, without a label", "ours", "", denied},
		{"theirs", "theirs", "two.example", denied},
		{"theirs, taken over", "theirs", "node-1", denied},
		{"unlabelled, taken over", "unlabelled", "node-1", denied},
	} {
		got := s.try(func() error {
			live, err := one.Get(t.Context(), tt.object, metav1.GetOptions{})
			if err != nil {
				return err
			}
			next := status(tt.object, tt.label)
			next.SetResourceVersion(live.GetResourceVersion())
			_, err = one.Update(t.Context(), next, metav1.UpdateOptions{})
			return err
		})
		if !got.matches(tt.want) {
			t.Errorf("%s: outcome of update = %v, want %v", tt.name, got, tt.want)
		}
		tells(t, got)
	}
	for object, want := range map[string]outcome{"theirs": denied, "unlabelled": denied, "ours": {}} {
		got := s.try(func() error { return one.Delete(t.Context(), object, metav1.DeleteOptions{}) })
		if !got.matches(want) {
			t.Errorf("%s: outcome of delete = %v, want %v", object, got, want)
		}
	}
	if err := two.Delete(t.Context(), "theirs", metav1.DeleteOptions{}); err != nil {
		t.Errorf("Delete() by its own node = %v, want nil", err)
	}
}

// testNoNode: a token that is of no pod, or of one that is on no node, says nothing
// about the node; and a client cannot say it in its stead.
func (s *statusWorld) testNoNode(t *testing.T) {
	waiting := pod(release, noVolume, as(account))
	waiting.Name = "waiting"
	imitated := s.Admin()
	imitated.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:" + release + ":" + account, Groups: []string{"system:masters"}}
	for name, config := range map[string]*rest.Config{
		"of no pod":        s.As(t, release, account),
		"on no node":       s.WithToken(s.BoundToken(t, s.CreatePod(t, waiting), controlplane.Issuer)),
		"impersonation":    imitated,
		"bound by request": s.WithToken(s.tokenOfSecret(t)),
	} {
		got := s.try(func() error {
			return create(t.Context(), s.client(t, config).Namespace("payments"), status("claimed-by-nobody", "node-1"))
		})
		if want := (outcome{denied: []string{statusPolicy}}); !got.matches(want) || len(got.texts) == 0 || !strings.Contains(got.texts[0], "names no node") {
			t.Errorf("%s: outcome = %v, want %v", name, got, want)
		}
	}
}

// tokenOfSecret is a token that is bound to a Secret.
func (s *statusWorld) tokenOfSecret(t *testing.T) string {
	t.Helper()
	secret, err := s.Client.CoreV1().Secrets(release).Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "binding"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := s.Client.CoreV1().ServiceAccounts(release).CreateToken(t.Context(), account, &authv1.TokenRequest{Spec: authv1.TokenRequestSpec{
		BoundObjectRef: &authv1.BoundObjectReference{Kind: "Secret", APIVersion: "v1", Name: secret.Name, UID: secret.UID},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return answer.Status.Token
}

// TestStatusNeedsItsRight: the policy takes rights away and gives none.
func TestStatusNeedsItsRight(t *testing.T) {
	s := newStatusWorld(t)
	s.CreateServiceAccount(t, "payments", account)
	other := s.client(t, s.As(t, "payments", account)).Namespace("payments")
	got := s.try(func() error { return create(t.Context(), other, status("none", "node-1")) })
	if !apierrors.IsForbidden(got.other) || len(got.denied) > 0 {
		t.Errorf("outcome = %v, want that RBAC refuses", got)
	}
}
