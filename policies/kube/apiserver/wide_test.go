package apiserver_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/policies/kube"
	"github.com/portcullis-csi/portcullis/policies/kube/apiserver"
)

func wide(c *apiserver.Config) { c.Node, c.ClusterWide = "", true }

// A cluster-wide reader answers from its watches for as long as they speak, and
// keeps no pods.
func TestClusterWideReaderWatches(t *testing.T) {
	f := newFixture(t, wide)
	f.run(t)
	if n := f.api.count("/api/v1/pods"); n != 0 {
		t.Errorf("pods were listed %d times, want never", n)
	}
	single := func() int { return f.api.count(classPath) + f.api.count(accountPath) }
	read := func() (string, string, error) {
		class, err := f.Class(t.Context(), "payments", "db")
		account, err2 := f.ServiceAccount(t.Context(), "payments", "api")
		if err := errors.Join(err, err2); err != nil {
			return "", "", err
		}
		class.Spec.Parameters["objects"] += "changed by its owner"
		return class.ResourceVersion, account.Annotations["tier"], nil
	}
	_, tier, err := read()
	if err != nil || tier != "1" || single() != 0 {
		t.Fatalf("tier %q, %v, %d single requests, want the annotations, from the watch", tier, err, single())
	}
	changed := account()
	changed.Annotations["tier"] = "2"
	f.api.put(accountPath, changed)
	eventually(t, "the change of the service account", func() bool { _, tier, _ := read(); return tier == "2" })
	f.api.put(classPath, class())
	eventually(t, "the change of the class", func() bool {
		got, err := f.Class(t.Context(), "payments", "db")
		return err == nil && got.ResourceVersion != "" && !strings.Contains(got.Spec.Parameters["objects"], "owner")
	})
	f.clock.pass(3 * time.Minute)
	if _, _, err := read(); err != nil || single() != 2 {
		t.Errorf("read() = %v, %d single requests, want both read live once the watch is silent", err, single())
	}
}

// What the caches do not hold is read live, and only the API server can say that
// there is none.
func TestClusterWideReaderMisses(t *testing.T) {
	f := newFixture(t, wide)
	f.run(t)
	if _, err := f.Class(t.Context(), "payments", "none"); !errors.Is(err, kube.ErrNotFound) {
		t.Errorf("Class() = %v, want kube.ErrNotFound", err)
	}
	f.api.says(http.StatusServiceUnavailable, "")
	_, err := f.Class(t.Context(), "payments", "none")
	checkUnavailable(t, err, "SecretProviderClass", apiserver.ServerError)
}

// Authors of classes cannot fill the memory of the webhook.
func TestLargeClassesAreReadLive(t *testing.T) {
	f := newFixture(t, wide)
	large := class()
	large.Spec.Parameters["objects"] = strings.Repeat("x", 200<<10)
	f.api.put(classPath, large)
	f.run(t)
	got, err := f.Class(t.Context(), "payments", "db")
	if err != nil || len(got.Spec.Parameters["objects"]) != 200<<10 || f.api.count(classPath) != 1 {
		t.Errorf("Class() = %v, %d requests, want it whole, read live", err, f.api.count(classPath))
	}
}

func TestClusterWideReaderIsOfNoNode(t *testing.T) {
	f := newFixture(t, wide)
	if _, err := f.PodExists(t.Context(), podUID); err == nil {
		t.Error("PodExists() = nil, want an error: there is no node to look on")
	}
	if _, err := apiserver.New(apiserver.Config{REST: f.api.config(), Node: "node-1", ClusterWide: true, DriverName: driverName}); err == nil {
		t.Error("New() with a node and for the whole cluster = nil, want an error")
	}
}
