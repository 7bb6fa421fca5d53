package cluster_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What replicas serve is read by a handshake, of those that are ready, and nothing
// is sent to them.
func TestReplicasOfTheWebhook(t *testing.T) {
	requests := 0
	replica := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests++ }))
	t.Cleanup(replica.Close)
	host, port, err := net.SplitHostPort(replica.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	slices := fmt.Sprintf(`{"items":[{"ports":[{"name":"webhook","port":%s}],"endpoints":[
		{"addresses":[%q],"conditions":{"ready":true},"targetRef":{"kind":"Pod","name":"portcullis-webhook-0"}},
		{"addresses":[%q],"conditions":{"ready":false},"targetRef":{"kind":"Pod","name":"portcullis-webhook-1"}},
		{"addresses":[],"conditions":{"ready":true}}]},
		{"ports":[{"port":1}],"endpoints":[{"addresses":["127.0.0.1"]}]}]}`, port, host, host)
	selector := ""
	a := newAPI(t, map[string]func(http.ResponseWriter, *http.Request){
		"/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices": func(w http.ResponseWriter, r *http.Request) {
			selector = r.URL.Query().Get("labelSelector")
			says(http.StatusOK, slices)(w, r)
		},
	})
	found := gather(t, a).Endpoints
	if found.Err != nil || len(found.Value) != 3 || selector != "kubernetes.io/service-name=portcullis-webhook" {
		t.Fatalf("Endpoints = %+v of %q, want three of the webhook's Service", found, selector)
	}
	first, second, third := found.Value[0], found.Value[1], found.Value[2]
	if first.Name != "portcullis-webhook-0" || !first.Ready || first.Err != nil || len(first.Chain) != 1 || !first.Chain[0].Equal(replica.Certificate()) {
		t.Errorf("the first replica is %+v, want what it serves", first)
	}
	if diff := cmp.Diff("portcullis-webhook-1", second.Name); diff != "" || second.Ready || second.Chain != nil || second.Err != nil {
		t.Errorf("the second replica is %+v, want that nobody asked it", second)
	}
	if third.Err == nil || third.Chain != nil {
		t.Errorf("a replica that nobody serves is %+v, want why", third)
	}
	if requests != 0 {
		t.Errorf("%d requests were sent to a replica", requests)
	}
}
