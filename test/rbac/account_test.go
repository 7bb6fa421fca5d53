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
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/portcullis-csi/portcullis/test/cluster/clustertest"
)

const (
	payments = "payments"
	classes  = "/apis/secrets-store.csi.x-k8s.io/v1/namespaces/payments/secretproviderclasses"
	statuses = "/apis/secrets-store.csi.x-k8s.io/v1/namespaces/payments/secretproviderclasspodstatuses"
	everyOne = "/apis/secrets-store.csi.x-k8s.io/v1/secretproviderclasspodstatuses"
	drivers  = "/apis/storage.k8s.io/v1/csidrivers"
)

// objectsOfTheTest are what the calls below are about.
const objectsOfTheTest = `
{apiVersion: v1, kind: ServiceAccount, metadata: {namespace: payments, name: api}}
---
{apiVersion: v1, kind: Pod, metadata: {namespace: payments, name: api-0}, spec: {serviceAccountName: api, nodeName: node1, containers: [{name: main, image: registry.example/api}]}}
---
{apiVersion: v1, kind: Secret, metadata: {namespace: payments, name: db}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {namespace: payments, name: db}}
---
{apiVersion: v1, kind: Event, metadata: {namespace: payments, name: seen}, involvedObject: {kind: Pod, namespace: payments, name: api-0}, reason: Seen, type: Normal}
---
{apiVersion: secrets-store.csi.x-k8s.io/v1, kind: SecretProviderClass, metadata: {namespace: payments, name: db}, spec: {provider: vault}}
---
{apiVersion: secrets-store.csi.x-k8s.io/v1, kind: SecretProviderClassPodStatus, metadata: {namespace: payments, name: kept}}
---
{apiVersion: storage.k8s.io/v1, kind: CSIDriver, metadata: {name: secrets-store.csi.k8s.io}, spec: {podInfoOnMount: true, attachRequired: false}}
---
{apiVersion: storage.k8s.io/v1, kind: CSIDriver, metadata: {name: other.csi.example}, spec: {attachRequired: false}}
`

// cluster is an API server with the files applied, and clients of it.
type cluster struct {
	*clustertest.Cluster
	as rest.Interface // the plugin's account
}

func start(t *testing.T) *cluster {
	t.Helper()
	c := clustertest.Start(t, clustertest.Options{})
	c.ApplyFiles(t, chart+"/crds/*.yaml")
	c.ApplyFiles(t, files+"/rbac/*.yaml")
	c.CreateNamespace(t, payments, nil)
	c.Apply(t, objectsOfTheTest)
	// Hardened clusters take this one away, and its absence must not stop the
	// plugin from verifying tokens.
	err := c.Client.RbacV1().ClusterRoleBindings().Delete(t.Context(), "system:service-account-issuer-discovery", metav1.DeleteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{Cluster: c, as: client(t, c.As(t, namespace, account))}
}

func client(t *testing.T, config *rest.Config) rest.Interface {
	t.Helper()
	own := rest.CopyConfig(config)
	own.QPS = -1
	c, err := kubernetes.NewForConfig(own)
	if err != nil {
		t.Fatal(err)
	}
	return c.RESTClient()
}

// call is one request as the plugin's account; n makes names of objects.
type call func(ctx context.Context, c rest.Interface, n int) error

func get(path string) call {
	return func(ctx context.Context, c rest.Interface, _ int) error {
		return c.Get().RequestURI(path).Do(ctx).Error()
	}
}

// metadata reads no more of an object than its metadata.
func metadata(path, kind string) call {
	return func(ctx context.Context, c rest.Interface, _ int) error {
		return c.Get().RequestURI(path).SetHeader("Accept", "application/json;as="+kind+";g=meta.k8s.io;v=v1").Do(ctx).Error()
	}
}

// watch waits for the first bytes of a watch, which is over after a second.
func watch(path string) call {
	return func(ctx context.Context, c rest.Interface, _ int) error {
		stream, err := c.Get().RequestURI(path + "&watch=true&timeoutSeconds=1").Stream(ctx)
		if err != nil {
			return err
		}
		return stream.Close()
	}
}

// create makes an object, by a name of its own each time.
func create(path, body string) call {
	return func(ctx context.Context, c rest.Interface, n int) error {
		return c.Post().RequestURI(path).SetHeader("Content-Type", "application/json").Body(fmt.Appendf(nil, body, n)).Do(ctx).Error()
	}
}

const newStatus = `{"apiVersion":"secrets-store.csi.x-k8s.io/v1","kind":"SecretProviderClassPodStatus","metadata":{"namespace":"payments","name":"made-%d"}}`

// updates changes the status that is there, as a rotation does.
func updates(c *cluster) call {
	return func(ctx context.Context, as rest.Interface, n int) error {
		admin, err := kubernetes.NewForConfig(c.Admin())
		if err != nil {
			return err
		}
		raw, err := admin.RESTClient().Get().RequestURI(statuses + "/kept").Do(ctx).Raw()
		if err != nil {
			return err
		}
		body := strings.Replace(string(raw), `"metadata":{`, fmt.Sprintf(`"status":{"podName":"pod-%d"},"metadata":{`, n), 1)
		return as.Put().RequestURI(statuses+"/kept").SetHeader("Content-Type", "application/json").Body([]byte(body)).Do(ctx).Error()
	}
}

// deletes removes a status that an earlier pod left.
func deletes(c *cluster) call {
	return func(ctx context.Context, as rest.Interface, n int) error {
		admin, err := kubernetes.NewForConfig(c.Admin())
		if err != nil {
			return err
		}
		if err := create(statuses, newStatus)(ctx, admin.RESTClient(), 1_000_000+n); err != nil {
			return err
		}
		return as.Delete().RequestURI(fmt.Sprintf("%s/made-%d", statuses, 1_000_000+n)).Do(ctx).Error()
	}
}

func patchEvent(ctx context.Context, c rest.Interface, n int) error {
	return c.Patch(types.StrategicMergePatchType).RequestURI("/api/v1/namespaces/payments/events/seen").
		Body(fmt.Appendf(nil, `{"count":%d}`, n+2)).Do(ctx).Error()
}

// uses has a call for each right of the plugin's account.
func uses(c *cluster) map[string]call {
	const node, ours = "?fieldSelector=spec.nodeName%3Dnode1", "?fieldSelector=metadata.name%3Dsecrets-store.csi.k8s.io"
	const label = "?labelSelector=internal.secrets-store.csi.k8s.io%2Fnode-name%3Dnode1&limit=100"
	return map[string]call{
		"get pods":         get("/api/v1/namespaces/payments/pods/api-0"),
		"list pods":        get("/api/v1/pods" + node),
		"watch pods":       watch("/api/v1/pods" + node),
		"get namespaces":   metadata("/api/v1/namespaces/payments", "PartialObjectMetadata"),
		"list namespaces":  metadata("/api/v1/namespaces", "PartialObjectMetadataList"),
		"watch namespaces": watch("/api/v1/namespaces?"),

		"get serviceaccounts": get("/api/v1/namespaces/payments/serviceaccounts/api"),
		"get secretproviderclasses.secrets-store.csi.x-k8s.io":   get(classes + "/db"),
		"get csidrivers.storage.k8s.io secrets-store.csi.k8s.io": get(drivers + "/secrets-store.csi.k8s.io"),

		"list csidrivers.storage.k8s.io secrets-store.csi.k8s.io":  get(drivers + ours),
		"watch csidrivers.storage.k8s.io secrets-store.csi.k8s.io": watch(drivers + ours),

		"create secretproviderclasspodstatuses.secrets-store.csi.x-k8s.io": create(statuses, newStatus),
		"get secretproviderclasspodstatuses.secrets-store.csi.x-k8s.io":    get(statuses + "/kept"),
		"list secretproviderclasspodstatuses.secrets-store.csi.x-k8s.io":   get(everyOne + label),
		"update secretproviderclasspodstatuses.secrets-store.csi.x-k8s.io": updates(c),
		"delete secretproviderclasspodstatuses.secrets-store.csi.x-k8s.io": deletes(c),

		"create events": create("/api/v1/namespaces/payments/events",
			`{"apiVersion":"v1","kind":"Event","metadata":{"namespace":"payments","name":"made-%d"},"involvedObject":{"kind":"Pod","namespace":"payments","name":"api-0"},"reason":"Test","type":"Warning"}`),
		"patch events": patchEvent,

		"get /openid/v1/jwks":                   get("/openid/v1/jwks"),
		"get /.well-known/openid-configuration": get("/.well-known/openid-configuration"),
	}
}

// without returns the rules less one right.
func without(rules []rbacv1.PolicyRule, right string) []rbacv1.PolicyRule {
	var out []rbacv1.PolicyRule
	for _, r := range rules {
		for _, verb := range r.Verbs {
			for _, url := range r.NonResourceURLs {
				out = append(out, rbacv1.PolicyRule{Verbs: []string{verb}, NonResourceURLs: []string{url}})
			}
			for _, resource := range r.Resources {
				out = append(out, rbacv1.PolicyRule{Verbs: []string{verb}, APIGroups: r.APIGroups, Resources: []string{resource}, ResourceNames: r.ResourceNames})
			}
		}
	}
	return slices.DeleteFunc(out, func(r rbacv1.PolicyRule) bool { return slices.Contains(rights([]rbacv1.PolicyRule{r}), right) })
}

// TestTheAccountUsesEveryRight makes each call as the account: it works with the
// file's role, and with a role that lacks this one right it does not. A right
// without a test, and a test without a right, fail.
func TestTheAccountUsesEveryRight(t *testing.T) {
	c := start(t)
	whole := role(t, nodeRole).Rules
	tests := uses(c)
	if diff := cmp.Diff(rights(whole), slices.Sorted(maps.Keys(tests))); diff != "" {
		t.Errorf("rights in the file and calls that use them (-file +tests):\n%s", diff)
	}
	n := 0
	// settles makes the call until its outcome is this: the API server takes a
	// moment to see a changed role.
	settles := func(t *testing.T, do call, forbidden bool) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			n++
			err := do(t.Context(), c.as, n)
			if err == nil && !forbidden || apierrors.IsForbidden(err) && forbidden {
				return
			}
			if time.Now().After(deadline) || err != nil && !apierrors.IsForbidden(err) {
				t.Fatalf("call = %v, want it forbidden: %t", err, forbidden)
			}
		}
	}
	for right, do := range tests {
		t.Run(right, func(t *testing.T) {
			setRules(t, c, whole)
			settles(t, do, false)
			setRules(t, c, without(whole, right))
			settles(t, do, true)
		})
	}
}

func setRules(t *testing.T, c *cluster, rules []rbacv1.PolicyRule) {
	t.Helper()
	roles := c.Client.RbacV1().ClusterRoles()
	live, err := roles.Get(t.Context(), nodeRole, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	live.Rules = rules
	if _, err := roles.Update(t.Context(), live, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// TestTheAccountMayNothingElse has what somebody with the account's token would
// try.
func TestTheAccountMayNothingElse(t *testing.T) {
	c := start(t)
	const pod, account = "/api/v1/namespaces/payments/pods/api-0", "/api/v1/namespaces/payments/serviceaccounts/api"
	tests := map[string]struct{ method, path string }{
		"get a secret":                {http.MethodGet, "/api/v1/namespaces/payments/secrets/db"},
		"list secrets":                {http.MethodGet, "/api/v1/namespaces/payments/secrets"},
		"list all secrets":            {http.MethodGet, "/api/v1/secrets"},
		"watch secrets":               {http.MethodGet, "/api/v1/secrets?watch=true"},
		"create a secret":             {http.MethodPost, "/api/v1/namespaces/payments/secrets"},
		"get a configmap":             {http.MethodGet, "/api/v1/namespaces/payments/configmaps/db"},
		"create a pod":                {http.MethodPost, "/api/v1/namespaces/payments/pods"},
		"update a pod":                {http.MethodPut, pod},
		"patch a pod":                 {http.MethodPatch, pod},
		"delete a pod":                {http.MethodDelete, pod},
		"patch a pod's status":        {http.MethodPatch, pod + "/status"},
		"exec into a pod":             {http.MethodPost, pod + "/exec?command=sh"},
		"attach a container":          {http.MethodPatch, pod + "/ephemeralcontainers"},
		"read a pod's log":            {http.MethodGet, pod + "/log"},
		"evict a pod":                 {http.MethodPost, pod + "/eviction"},
		"bind a pod":                  {http.MethodPost, pod + "/binding"},
		"list classes":                {http.MethodGet, classes},
		"watch classes":               {http.MethodGet, classes + "?watch=true"},
		"create a class":              {http.MethodPost, classes},
		"update a class":              {http.MethodPut, classes + "/db"},
		"patch a class":               {http.MethodPatch, classes + "/db"},
		"delete a class":              {http.MethodDelete, classes + "/db"},
		"patch a status":              {http.MethodPatch, statuses + "/kept"},
		"watch statuses":              {http.MethodGet, everyOne + "?watch=true"},
		"delete all statuses":         {http.MethodDelete, statuses},
		"get a node":                  {http.MethodGet, "/api/v1/nodes/node1"},
		"list nodes":                  {http.MethodGet, "/api/v1/nodes"},
		"reach a kubelet":             {http.MethodGet, "/api/v1/nodes/node1/proxy/pods"},
		"get a CSINode":               {http.MethodGet, "/apis/storage.k8s.io/v1/csinodes/node1"},
		"get another CSIDriver":       {http.MethodGet, drivers + "/other.csi.example"},
		"list all CSIDrivers":         {http.MethodGet, drivers},
		"patch the CSIDriver":         {http.MethodPatch, drivers + "/secrets-store.csi.k8s.io"},
		"list service accounts":       {http.MethodGet, "/api/v1/serviceaccounts"},
		"patch a service account":     {http.MethodPatch, account},
		"make a token":                {http.MethodPost, account + "/token"},
		"review a token":              {http.MethodPost, "/apis/authentication.k8s.io/v1/tokenreviews"},
		"review another's access":     {http.MethodPost, "/apis/authorization.k8s.io/v1/subjectaccessreviews"},
		"patch a namespace":           {http.MethodPatch, "/api/v1/namespaces/payments"},
		"get an event":                {http.MethodGet, "/api/v1/namespaces/payments/events/seen"},
		"list events":                 {http.MethodGet, "/api/v1/events"},
		"delete an event":             {http.MethodDelete, "/api/v1/namespaces/payments/events/seen"},
		"get a lease":                 {http.MethodGet, "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/x"},
		"read the roles":              {http.MethodGet, "/apis/rbac.authorization.k8s.io/v1/clusterroles"},
		"widen its own role":          {http.MethodPatch, "/apis/rbac.authorization.k8s.io/v1/clusterroles/" + nodeRole},
		"bind itself to another role": {http.MethodPost, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"},
		"change a webhook":            {http.MethodPost, "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"},
		"change a definition":         {http.MethodPost, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"},
		"read the metrics":            {http.MethodGet, "/metrics"},
		"read profiles":               {http.MethodGet, "/debug/pprof/"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			request := c.as.Verb(tt.method).RequestURI(tt.path)
			if tt.method != http.MethodGet {
				request = request.SetHeader("Content-Type", contentType(tt.method)).Body([]byte("{}"))
			}
			if err := request.Do(t.Context()).Error(); !apierrors.IsForbidden(err) {
				t.Errorf("%s %s = %v, want forbidden", tt.method, tt.path, err)
			}
		})
	}
	for _, who := range []rest.ImpersonationConfig{
		{UserName: "system:admin"}, {UserName: "system:serviceaccount:payments:api"}, {UserName: "system:serviceaccount:" + namespace + ":secrets-store-csi-driver", Groups: []string{"system:masters"}},
	} {
		t.Run("impersonate "+who.UserName, func(t *testing.T) {
			config := c.As(t, namespace, "secrets-store-csi-driver")
			config.Impersonate = who
			if err := client(t, config).Get().RequestURI("/api/v1/pods").Do(t.Context()).Error(); !apierrors.IsForbidden(err) {
				t.Errorf("call as %s = %v, want forbidden", who.UserName, err)
			}
		})
	}
}

func contentType(method string) string {
	if method == http.MethodPatch {
		return string(types.MergePatchType)
	}
	return "application/json"
}

// TestRightsAreThoseOfTheFile asks the API server about every verb on every
// resource that it serves, for the plugin's account and for one without any
// rights: the difference is what the file says.
func TestRightsAreThoseOfTheFile(t *testing.T) {
	c := start(t)
	c.CreateServiceAccount(t, payments, "nobody")
	_, lists, err := c.Client.Discovery().ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	allowed := func(who, group string, ask *authv1.ResourceAttributes) bool {
		t.Helper()
		review, err := c.Client.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), &authv1.SubjectAccessReview{Spec: authv1.SubjectAccessReviewSpec{
			User: who, Groups: []string{"system:serviceaccounts", group, "system:authenticated"}, ResourceAttributes: ask,
		}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return review.Status.Allowed
	}
	verbs := strings.Fields("get list watch create update patch delete deletecollection impersonate bind escalate approve sign use")
	var got []string
	asked := 0
	for _, list := range lists {
		for _, resource := range list.APIResources {
			group, version, ok := strings.Cut(list.GroupVersion, "/")
			if !ok {
				group, version = "", list.GroupVersion
			}
			kind, sub, _ := strings.Cut(resource.Name, "/")
			names := []string{""}
			if resource.Name == "csidrivers" { // the one with rights by name
				names = append(names, "secrets-store.csi.k8s.io", "other.csi.example")
			}
			for _, verb := range verbs {
				for _, name := range names {
					ask := &authv1.ResourceAttributes{Verb: verb, Group: group, Version: version, Resource: kind, Subresource: sub, Name: name, Namespace: payments}
					asked++
					if allowed("system:serviceaccount:"+namespace+":"+account, "system:serviceaccounts:"+namespace, ask) &&
						!allowed("system:serviceaccount:payments:nobody", "system:serviceaccounts:payments", ask) {
						got = append(got, strings.TrimSpace(verb+" "+qualified(resource.Name, group)+" "+name))
					}
				}
			}
		}
	}
	if asked < 500 {
		t.Errorf("asked about %d rights, want all that the API server knows", asked)
	}
	want := slices.DeleteFunc(rights(role(t, nodeRole).Rules), func(right string) bool { return strings.Contains(right, " /") })
	slices.Sort(got)
	if diff := cmp.Diff(want, slices.Compact(got)); diff != "" {
		t.Errorf("rights of the account (-file +API server):\n%s", diff)
	}
	for _, core := range []string{corev1.NamespaceDefault, namespace} {
		ask := &authv1.ResourceAttributes{Verb: "get", Resource: "secrets", Namespace: core}
		if allowed("system:serviceaccount:"+namespace+":"+account, "system:serviceaccounts:"+namespace, ask) {
			t.Errorf("the account may get secrets in %s", core)
		}
	}
}
