package deploy_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/kube/workload"
	"github.com/portcullis-csi/portcullis/policies/rego"
)

// decided says by which grants each volume of the samples is allowed.
func decided(t *testing.T, engine *policies.Engine, now time.Time) map[string][]string {
	t.Helper()
	paths, err := filepath.Glob("samples/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	files, err := workload.ReadFiles(paths, nil)
	if err != nil {
		t.Fatal(err)
	}
	objects, err := workload.Parse(files, "default")
	if err != nil {
		t.Fatal(err)
	}
	c := workload.Circumstances{Now: now, Cluster: "test", DriverName: "secrets-store.csi.k8s.io", Sources: []workload.Source{objects}}
	found := map[string][]string{}
	for _, w := range objects.Workloads() {
		for _, v := range c.Volumes(t.Context(), w) {
			name := w.Kind + " " + w.Namespace + "/" + w.Name + " " + v.Name
			if v.Err != nil || len(v.Assumed) > 0 {
				t.Errorf("%s: error %v, assumed %q, want samples that are whole", name, v.Err, v.Assumed)
				continue
			}
			d := engine.Decide(t.Context(), v.Input)
			found[name] = append([]string{string(d.Verdict())}, d.Grants...)
		}
	}
	return found
}

// The grants of samples/policy, copied into the starter policy as its README
// says, allow every sample; without them only what the starter policy grants.
func TestSamplePolicyAllowsTheSamples(t *testing.T) {
	starter, err := rego.Starter()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "policy")
	if err := os.CopyFS(dir, starter); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	compile := func() *policies.Engine {
		t.Helper()
		b, err := bundle.LoadDirectory(dir)
		if err != nil {
			t.Fatal(err)
		}
		engine, err := policies.Compile(t.Context(), b, policies.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return engine
	}
	without := map[string][]string{
		"Deployment shop/web mail": {"deny"}, "Deployment shop/web session": {"deny"}, "Pod orders/api secrets": {"deny"},
		"Pod payments/api secrets": {"allow", "example-payments-api"}, "StatefulSet ledger/db tls": {"deny"},
	}
	if diff := cmp.Diff(without, decided(t, compile(), now)); diff != "" {
		t.Errorf("by the starter policy (-want +got):\n%s", diff)
	}
	if err := os.CopyFS(dir, os.DirFS("samples/policy")); err != nil {
		t.Fatal(err)
	}
	with := map[string][]string{
		"Deployment shop/web mail": {"allow", "sample-shop-web"}, "Deployment shop/web session": {"allow", "sample-shop-web"},
		"Pod orders/api secrets": {"allow", "sample-orders-api"}, "Pod payments/api secrets": {"allow", "example-payments-api"},
		"StatefulSet ledger/db tls": {"allow", "sample-ledger-db"},
	}
	if diff := cmp.Diff(with, decided(t, compile(), now)); diff != "" {
		t.Errorf("with the grants of the samples (-want +got):\n%s", diff)
	}
}

// A grant that no sample uses would be a right for nothing.
func TestSampleGrantsAreAllUsed(t *testing.T) {
	text, err := os.ReadFile("samples/policy/portcullis/grants/samples.yaml")
	if err != nil {
		t.Fatal(err)
	}
	grants, err := bundle.ParseGrants(text)
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]string, 0, len(grants))
	for _, g := range grants {
		ids = append(ids, g.ID)
	}
	slices.Sort(ids)
	if diff := cmp.Diff([]string{"sample-ledger-db", "sample-orders-api", "sample-shop-web"}, ids); diff != "" {
		t.Errorf("grants of the samples (-want +got):\n%s", diff)
	}
}
