package rbac_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

const (
	chart     = "../../deploy/chart"
	files     = chart + "/files"
	namespace = "kube-system"
	account   = "secrets-store-csi-driver"
	nodeRole  = "secretproviderclasses-role"
)

// upstream returns a file of the upstream driver, in the version of go.mod.
func upstream(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/secrets-store-csi-driver").CombinedOutput()
	if err != nil {
		t.Fatalf("go list -m: %v\n%s", err, out)
	}
	return read(t, filepath.Join(strings.TrimSpace(string(out)), name))
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// names of the manifests in a directory.
func names(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("found %d manifests in %s: %v", len(paths), dir, err)
	}
	for i, p := range paths {
		paths[i] = filepath.Base(p)
	}
	return paths
}

// objects parses the objects of a manifest, by kind and name.
func objects(t *testing.T, text string) map[string]map[string]any {
	t.Helper()
	out := map[string]map[string]any{}
	for part := range strings.SplitSeq("\n"+text, "\n---\n") {
		var o map[string]any
		if err := yaml.UnmarshalStrict([]byte(part), &o); err != nil {
			t.Fatal(err)
		}
		if len(o) == 0 {
			continue
		}
		meta, ok := o["metadata"].(map[string]any)
		if !ok {
			t.Fatalf("an object has no metadata: %v", o)
		}
		out[fmt.Sprintf("%v %v", o["kind"], meta["name"])] = o
	}
	return out
}

// role returns a ClusterRole of the files.
func role(t *testing.T, name string) rbacv1.ClusterRole {
	t.Helper()
	var r rbacv1.ClusterRole
	if err := yaml.UnmarshalStrict([]byte(read(t, filepath.Join(files, "rbac", name+".yaml"))), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// rights spells a role out, one right at a time, as the tests are named.
func rights(rules []rbacv1.PolicyRule) []string {
	var out []string
	for _, r := range rules {
		for _, verb := range r.Verbs {
			for _, url := range r.NonResourceURLs {
				out = append(out, verb+" "+url)
			}
			for _, group := range r.APIGroups {
				for _, resource := range r.Resources {
					right := verb + " " + qualified(resource, group)
					if len(r.ResourceNames) == 0 {
						out = append(out, right)
					}
					for _, n := range r.ResourceNames {
						out = append(out, right+" "+n)
					}
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

// qualified names a resource as kubectl does.
func qualified(resource, group string) string {
	if group == "" {
		return resource
	}
	return resource + "." + group
}

func TestDefinitionsAreUpstreams(t *testing.T) {
	for _, name := range names(t, chart+"/crds") {
		ours := objects(t, read(t, filepath.Join(chart, "crds", name)))
		if diff := cmp.Diff(objects(t, upstream(t, "config/crd/bases/"+name)), ours); diff != "" {
			t.Errorf("%s differs from upstream's (-want +got); copy it anew:\n%s", name, diff)
		}
		for key, o := range ours {
			text, err := yaml.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			var definition struct {
				Spec struct{ Versions []struct{ Name string } }
			}
			if err := yaml.Unmarshal(text, &definition); err != nil {
				t.Fatal(err)
			}
			var versions []string
			for _, v := range definition.Spec.Versions {
				versions = append(versions, v.Name)
			}
			if diff := cmp.Diff([]string{"v1", "v1alpha1"}, versions); diff != "" {
				t.Errorf("versions of %s (-want +got):\n%s", key, diff)
			}
		}
		head, _, _ := strings.Cut(read(t, filepath.Join(chart, "crds", name)), "---")
		if !strings.Contains(head, "secrets-store-csi-driver v1.6.0") || !strings.Contains(head, "Apache-2.0") || !strings.Contains(read(t, "../../go.mod"), "sigs.k8s.io/secrets-store-csi-driver v1.6.0") {
			t.Errorf("the head of %s does not name its origin in the version of go.mod, and the licence:\n%s", name, head)
		}
	}
	if n := len(names(t, chart+"/crds")); n != 2 {
		t.Errorf("there are %d definitions, want 2", n)
	}
}

// TestP11AccountAndRolesForPeopleAreUpstreams: other people's bindings and
// scripts name them.
func TestP11AccountAndRolesForPeopleAreUpstreams(t *testing.T) {
	want := map[string]map[string]any{}
	for _, name := range []string{
		"rbac-secretproviderclass", "role-secretproviderclasses-admin", "role-secretproviderclasses-viewer", "role-secretproviderclasspodstatuses-viewer",
	} {
		maps.Copy(want, objects(t, upstream(t, "deploy/"+name+".yaml")))
	}
	delete(want, "ClusterRole "+nodeRole) // the next test's
	got := map[string]map[string]any{}
	for _, name := range names(t, files+"/rbac") {
		found := objects(t, read(t, filepath.Join(files, "rbac", name)))
		if len(found) != 1 {
			t.Errorf("%s has %d objects, want one, for templates to include", name, len(found))
		}
		maps.Copy(got, found)
	}
	delete(got, "ClusterRole "+nodeRole)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("objects of rbac (-want +got):\n%s", diff)
	}
}

// TestTheAccountHasFewerRightsThanUpstreams: what upstream does not have is
// listed here, and what is dangerous is in no list.
func TestTheAccountHasFewerRightsThanUpstreams(t *testing.T) {
	beyond := []string{
		"get /.well-known/openid-configuration", "get /openid/v1/jwks", // every account has them by default
		"get namespaces",      // grants select by their labels
		"get serviceaccounts", // rules read their annotations
		"list namespaces", "watch namespaces",
	}
	var theirs rbacv1.ClusterRole
	text, err := yaml.Marshal(objects(t, upstream(t, "deploy/rbac-secretproviderclass.yaml"))["ClusterRole "+nodeRole])
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &theirs); err != nil {
		t.Fatal(err)
	}
	var more []string
	for _, right := range rights(role(t, nodeRole).Rules) {
		if !slices.Contains(rights(theirs.Rules), right) {
			more = append(more, right)
		}
		verb, resource, _ := strings.Cut(right, " ")
		if slices.Contains([]string{"patch", "update", "delete"}, verb) && !strings.HasPrefix(resource, "events") && !strings.HasPrefix(resource, "secretproviderclasspodstatuses.") ||
			slices.Contains([]string{"impersonate", "escalate", "bind", "deletecollection", "*"}, verb) ||
			strings.ContainsAny(resource, "*") || slices.Contains([]string{"secrets", "nodes", "serviceaccounts/token", "tokenreviews.authentication.k8s.io"}, resource) {
			t.Errorf("the account may %s, want nothing of the kind", right)
		}
	}
	if diff := cmp.Diff(beyond, more); diff != "" {
		t.Errorf("rights that upstream's account has not (-want +got):\n%s", diff)
	}
}

// TestNamespaceIsTheOnlyOneToReplace, as README.md beside the files promises.
func TestNamespaceIsTheOnlyOneToReplace(t *testing.T) {
	for _, name := range names(t, files+"/rbac") {
		text := read(t, filepath.Join(files, "rbac", name))
		want := 0
		if name == "serviceaccount.yaml" || name == "secretproviderclasses-rolebinding.yaml" {
			want = 1
		}
		lines, all := strings.Count(text, "\n  namespace: "+namespace+"\n"), strings.Count(text, namespace)
		if lines != want || all != want {
			t.Errorf("%s names %s %d times, %d of them on a line of its own, want %d", name, namespace, all, lines, want)
		}
		if strings.Contains(text, "{{") {
			t.Errorf("%s is a template, want plain YAML", name)
		}
	}
}
