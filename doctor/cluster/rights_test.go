package cluster_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

// reviews counts access reviews, and allows what a function says.
func reviews(t *testing.T, n *atomic.Int64, allow func(authorizationv1.SubjectAccessReviewSpec) bool) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		var review authorizationv1.SubjectAccessReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil || r.Method != http.MethodPost {
			t.Errorf("%s of a review: %v", r.Method, err)
		}
		review.Status.Allowed = allow(review.Spec)
		text, err := json.Marshal(review)
		if err != nil {
			t.Error(err)
		}
		says(http.StatusCreated, string(text))(w, r)
	}
}

// Reviews are of the plugin's account with the groups of its namespace, of a
// subresource as such, and of a path.
func TestRightsByReviews(t *testing.T) {
	var n atomic.Int64
	a := newAPI(t, map[string]func(http.ResponseWriter, *http.Request){
		"/apis/authorization.k8s.io/v1/subjectaccessreviews": reviews(t, &n, func(s authorizationv1.SubjectAccessReviewSpec) bool {
			if s.User != "system:serviceaccount:kube-system:secrets-store-csi-driver" || !slices.Contains(s.Groups, "system:serviceaccounts:kube-system") {
				t.Errorf("a review of %q in %q", s.User, s.Groups)
			}
			if s.NonResourceAttributes != nil {
				return s.NonResourceAttributes.Path == "/openid/v1/jwks"
			}
			return s.ResourceAttributes.Subresource == "token" && s.ResourceAttributes.Resource == "serviceaccounts"
		}),
	})
	found := gather(t, a).Rights
	var has []string
	for _, r := range found.Value {
		if r.Allowed {
			has = append(has, r.String())
		}
	}
	if got := strings.Join(has, ", "); found.Err != nil || got != "get /openid/v1/jwks, create serviceaccounts/token" {
		t.Errorf("rights = %s, %v, want what was allowed", got, found.Err)
	}
	if n.Load() <= int64(len(found.Value)) {
		t.Errorf("%d reviews of %d rights", n.Load(), len(found.Value))
	}
}

// The plugin's own account may not review others, and knows its own rights.
func TestRightsOfOneself(t *testing.T) {
	var n atomic.Int64
	a := newAPI(t, map[string]func(http.ResponseWriter, *http.Request){
		"/apis/authorization.k8s.io/v1/subjectaccessreviews":     says(http.StatusForbidden, ""),
		"/apis/authentication.k8s.io/v1/selfsubjectreviews":      says(http.StatusCreated, `{"status":{"userInfo":{"username":"system:serviceaccount:kube-system:secrets-store-csi-driver"}}}`),
		"/apis/authorization.k8s.io/v1/selfsubjectaccessreviews": reviews(t, &n, func(authorizationv1.SubjectAccessReviewSpec) bool { return true }),
	})
	found := gather(t, a).Rights
	if found.Err != nil || n.Load() != int64(len(found.Value)) {
		t.Errorf("rights = %d by %d reviews, %v", len(found.Value), n.Load(), found.Err)
	}
	for _, r := range found.Value {
		if !r.Allowed {
			t.Errorf("%s is not allowed", r)
		}
	}
}

// What doctor takes for needed is exactly the role of the chart.
func TestNeededRightsAreTheRole(t *testing.T) {
	var needed []string
	for _, r := range gather(t, newAPI(t, nil)).Rights.Value {
		if r.Needed {
			needed = append(needed, r.String())
		}
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "chart", "files", "rbac", "secretproviderclasses-role.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var role rbacv1.ClusterRole
	if err := yaml.Unmarshal(text, &role); err != nil {
		t.Fatal(err)
	}
	var given []string
	for _, rule := range role.Rules {
		given = append(given, spell(rule)...)
	}
	slices.Sort(needed)
	slices.Sort(given)
	if diff := cmp.Diff(given, needed); diff != "" || len(given) < 15 {
		t.Errorf("needed rights are not the role's (-role +doctor):\n%s", diff)
	}
}

// spell lists a rule as doctor writes rights.
func spell(rule rbacv1.PolicyRule) []string {
	var list []string
	for _, verb := range rule.Verbs {
		for _, path := range rule.NonResourceURLs {
			list = append(list, verb+" "+path)
		}
		for _, resource := range rule.Resources {
			what := resource
			if rule.APIGroups[0] != "" {
				what += "." + rule.APIGroups[0]
			}
			if len(rule.ResourceNames) > 0 {
				what += "/" + rule.ResourceNames[0]
			}
			list = append(list, verb+" "+what)
		}
	}
	return list
}

// The definitions of the chart have every field that is read and written.
func TestDefinitionsAreRead(t *testing.T) {
	const crds = `{"items":[
		{"metadata":{"name":"secretproviderclasses.secrets-store.csi.x-k8s.io"},"spec":{"versions":[
			{"name":"v1","served":true,"schema":{"openAPIV3Schema":{"properties":{"spec":{"properties":{"provider":{"properties":{"deep":{}}}}}}}}},
			{"name":"v1alpha1","served":false,"schema":{"openAPIV3Schema":{"properties":{"old":{}}}}},
			{"name":"v2","served":true}]},
		 "status":{"conditions":[{"type":"NamesAccepted","status":"True"},{"type":"Established","status":"True"}]}},
		{"metadata":{"name":"others.example.com"},"spec":{"versions":[{"name":"v1","served":true}]}}]}`
	a := newAPI(t, map[string]func(http.ResponseWriter, *http.Request){"/apis/apiextensions.k8s.io/v1/customresourcedefinitions": says(http.StatusOK, crds)})
	list := gather(t, a).Definitions.Value
	if len(list) != 1 {
		t.Fatalf("Definitions = %+v, want ours alone", list)
	}
	d := list[0]
	if diff := cmp.Diff(map[string]bool{"spec": true, "spec.provider": true}, d.Fields); diff != "" {
		t.Errorf("Fields of v1 (-want +got):\n%s", diff)
	}
	if !slices.Equal(d.Served, []string{"v1", "v2"}) || !d.Established {
		t.Errorf("Definition = %+v, want v1 and v2 served, established", d)
	}
}
