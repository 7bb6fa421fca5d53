//go:build integration

package rbac_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

const (
	webhookAccount = "portcullis-webhook"
	certificate    = "/api/v1/namespaces/kube-system/secrets/portcullis-webhook-cert"
	floorMap       = "/api/v1/namespaces/kube-system/configmaps/portcullis-policy-floor"
	hooks          = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
)

const objectsOfTheWebhook = `
{apiVersion: v1, kind: Secret, metadata: {namespace: kube-system, name: portcullis-webhook-cert}}
---
{apiVersion: v1, kind: Secret, metadata: {namespace: kube-system, name: other}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {namespace: kube-system, name: portcullis-policy-floor}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {namespace: kube-system, name: portcullis-policy-trust}}
---
{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingWebhookConfiguration, metadata: {name: portcullis}}
---
{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingWebhookConfiguration, metadata: {name: other}}
`

// startWithWebhook has the webhook's files too; as is its account.
func startWithWebhook(t *testing.T) *cluster {
	t.Helper()
	c := start(t)
	c.ApplyFiles(t, files+"/webhook/*.yaml")
	c.ApplyFiles(t, files+"/floor/*.yaml")
	c.Apply(t, objectsOfTheWebhook)
	return &cluster{Cluster: c.Cluster, as: client(t, c.As(t, namespace, webhookAccount))}
}

// webhookRules are those of both roles of the webhook.
func webhookRules(t *testing.T, name string) []rbacv1.PolicyRule {
	t.Helper()
	var r rbacv1.ClusterRole
	if err := yaml.Unmarshal([]byte(read(t, files+"/webhook/"+name+".yaml")), &r); err != nil {
		t.Fatal(err)
	}
	return r.Rules
}

// replaces writes what is there with one more label.
func replaces(c *cluster, path string) call {
	return func(ctx context.Context, as rest.Interface, n int) error {
		admin, err := kubernetes.NewForConfig(c.Admin())
		if err != nil {
			return err
		}
		raw, err := admin.RESTClient().Get().RequestURI(path).Do(ctx).Raw()
		if err != nil {
			return err
		}
		body := strings.Replace(string(raw), `"metadata":{`, fmt.Sprintf(`"metadata":{"labels":{"n":"%d"},`, n), 1)
		return as.Put().RequestURI(path).SetHeader("Content-Type", "application/json").Body([]byte(body)).Do(ctx).Error()
	}
}

func patchHook(ctx context.Context, c rest.Interface, n int) error {
	return c.Patch(types.MergePatchType).RequestURI(hooks + "/portcullis").Body(fmt.Appendf(nil, `{"metadata":{"labels":{"n":"%d"}}}`, n)).Do(ctx).Error()
}

// usesOfTheWebhook has a call for each right of the webhook's account.
func usesOfTheWebhook(c *cluster) map[string]call {
	const ours = "?fieldSelector=metadata.name%3Dsecrets-store.csi.k8s.io"
	const all = "/apis/secrets-store.csi.x-k8s.io/v1/secretproviderclasses"
	return map[string]call{
		"get namespaces":        metadata("/api/v1/namespaces/payments", "PartialObjectMetadata"),
		"list namespaces":       metadata("/api/v1/namespaces", "PartialObjectMetadataList"),
		"watch namespaces":      watch("/api/v1/namespaces?"),
		"get serviceaccounts":   metadata("/api/v1/namespaces/payments/serviceaccounts/api", "PartialObjectMetadata"),
		"list serviceaccounts":  metadata("/api/v1/serviceaccounts", "PartialObjectMetadataList"),
		"watch serviceaccounts": watch("/api/v1/serviceaccounts?"),

		"get secretproviderclasses.secrets-store.csi.x-k8s.io":     get(classes + "/db"),
		"list secretproviderclasses.secrets-store.csi.x-k8s.io":    get(all),
		"watch secretproviderclasses.secrets-store.csi.x-k8s.io":   watch(all + "?"),
		"get csidrivers.storage.k8s.io secrets-store.csi.k8s.io":   get(drivers + "/secrets-store.csi.k8s.io"),
		"list csidrivers.storage.k8s.io secrets-store.csi.k8s.io":  get(drivers + ours),
		"watch csidrivers.storage.k8s.io secrets-store.csi.k8s.io": watch(drivers + ours),

		"get validatingwebhookconfigurations.admissionregistration.k8s.io portcullis":   get(hooks + "/portcullis"),
		"patch validatingwebhookconfigurations.admissionregistration.k8s.io portcullis": patchHook,

		"get secrets portcullis-webhook-cert":       get(certificate),
		"update secrets portcullis-webhook-cert":    replaces(c, certificate),
		"get configmaps portcullis-policy-floor":    get(floorMap),
		"update configmaps portcullis-policy-floor": replaces(c, floorMap),
	}
}

// TestTheWebhookUsesEveryRight: each call works with the files, and with roles that
// lack its right it does not.
func TestTheWebhookUsesEveryRight(t *testing.T) {
	c := startWithWebhook(t)
	whole, own := webhookRules(t, "clusterrole"), webhookRules(t, "role")
	tests := usesOfTheWebhook(c)
	if diff := cmp.Diff(slices.Sorted(slices.Values(append(rights(whole), rights(own)...))), slices.Sorted(maps.Keys(tests))); diff != "" {
		t.Errorf("rights in the files and calls that use them (-files +tests):\n%s", diff)
	}
	set := func(t *testing.T, cluster, local []rbacv1.PolicyRule) {
		t.Helper()
		api := c.Client.RbacV1()
		wide, err := api.ClusterRoles().Get(t.Context(), webhookAccount, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		narrow, err := api.Roles(namespace).Get(t.Context(), webhookAccount, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		wide.Rules, narrow.Rules = cluster, local
		if _, err := api.ClusterRoles().Update(t.Context(), wide, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := api.Roles(namespace).Update(t.Context(), narrow, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	for right, do := range tests {
		t.Run(right, func(t *testing.T) {
			for _, forbidden := range []bool{false, true} {
				if set(t, whole, own); forbidden {
					set(t, without(whole, right), without(own, right))
				}
				// The API server takes a moment to see a changed role.
				for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
					n++
					err := do(t.Context(), c.as, n)
					if err == nil && !forbidden || apierrors.IsForbidden(err) && forbidden {
						break
					}
					if time.Now().After(deadline) || err != nil && !apierrors.IsForbidden(err) {
						t.Fatalf("call = %v, want it forbidden: %t", err, forbidden)
					}
				}
			}
		})
	}
}

// TestTheWebhookMayNothingElse: of every verb on every resource that the API server
// serves, in its own namespace and elsewhere, by our names, others and none.
func TestTheWebhookMayNothingElse(t *testing.T) {
	c := startWithWebhook(t)
	c.CreateServiceAccount(t, payments, "nobody")
	_, lists, err := c.Client.Discovery().ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	allowed := func(who, space string, ask authv1.ResourceAttributes) bool {
		t.Helper()
		review, err := c.Client.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), &authv1.SubjectAccessReview{Spec: authv1.SubjectAccessReviewSpec{
			User: "system:serviceaccount:" + space + ":" + who, Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + space, "system:authenticated"}, ResourceAttributes: &ask,
		}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return review.Status.Allowed
	}
	named := map[string]string{"secrets": "portcullis-webhook-cert", "configmaps": "portcullis-policy-floor", "validatingwebhookconfigurations": "portcullis", "csidrivers": "secrets-store.csi.k8s.io"}
	var got []string
	for _, list := range lists {
		for _, resource := range list.APIResources {
			group, _, ok := strings.Cut(list.GroupVersion, "/")
			if !ok {
				group = ""
			}
			kind, sub, _ := strings.Cut(resource.Name, "/")
			for _, verb := range strings.Fields("get list watch create update patch delete deletecollection impersonate bind escalate") {
				for _, space := range []string{namespace, payments} {
					for _, name := range slices.Compact([]string{"", named[resource.Name]}) {
						ask := authv1.ResourceAttributes{Verb: verb, Group: group, Version: "*", Resource: kind, Subresource: sub, Name: name, Namespace: space}
						if !allowed(webhookAccount, namespace, ask) || allowed("nobody", payments, ask) {
							continue
						}
						right := strings.TrimSpace(verb + " " + qualified(resource.Name, group) + " " + name)
						if got = append(got, right); space == payments && slices.Contains([]string{"secrets", "configmaps"}, kind) {
							t.Errorf("the webhook may %s in another namespace", right)
						}
					}
				}
			}
		}
	}
	slices.Sort(got)
	want := slices.Sorted(slices.Values(append(rights(webhookRules(t, "clusterrole")), rights(webhookRules(t, "role"))...)))
	if diff := cmp.Diff(want, slices.Compact(got)); diff != "" {
		t.Errorf("rights of the webhook (-files +API server):\n%s", diff)
	}
	for path, method := range map[string]string{
		"/api/v1/namespaces/kube-system/secrets/other":                      http.MethodGet,
		"/api/v1/namespaces/kube-system/secrets":                            http.MethodPost,
		"/api/v1/namespaces/kube-system/configmaps/portcullis-policy-trust": http.MethodPut,
		hooks + "/other":                         http.MethodPatch,
		hooks + "/portcullis":                    http.MethodDelete,
		"/api/v1/namespaces/payments/pods/api-0": http.MethodGet,
		"/apis/rbac.authorization.k8s.io/v1/clusterroles/portcullis-webhook":      http.MethodPatch,
		"/api/v1/namespaces/kube-system/serviceaccounts/portcullis-webhook/token": http.MethodPost,
	} {
		request := c.as.Verb(method).RequestURI(path)
		if method != http.MethodGet {
			request = request.SetHeader("Content-Type", contentType(method)).Body([]byte("{}"))
		}
		if err := request.Do(t.Context()).Error(); !apierrors.IsForbidden(err) {
			t.Errorf("%s %s = %v, want forbidden", method, path, err)
		}
	}
	// The node plugin reads the floor and writes nothing of it.
	node := client(t, c.As(t, namespace, account))
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if err := node.Get().RequestURI(floorMap).Do(t.Context()).Error(); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("the node plugin does not read the floor: %v", err)
		}
	}
	if err := replaces(c, floorMap)(t.Context(), node, 1); !apierrors.IsForbidden(err) {
		t.Errorf("the node plugin writes the floor: %v, want forbidden", err)
	}
}
