package cluster_test

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/doctor"
)

// A status is that of the pod that owns it, by UID: a pod that is made anew has
// the same name.
func TestStatusesNameTheirPods(t *testing.T) {
	a := newAPI(t, map[string]func(http.ResponseWriter, *http.Request){
		"/apis/secrets-store.csi.x-k8s.io/v1/secretproviderclasspodstatuses": says(http.StatusOK, `{"items":[
			{"metadata":{"name":"api-db","namespace":"payments","ownerReferences":[{"kind":"ReplicaSet","uid":"other"},{"kind":"Pod","uid":"one"}]},"status":{"podName":"api"}},
			{"metadata":{"name":"gone-db","namespace":"payments"},"status":{"podName":"gone"}}]}`),
	})
	want := doctor.Asked[[]doctor.PodStatus]{Value: []doctor.PodStatus{
		{Namespace: "payments", Name: "api-db", Pod: "api", PodUID: "one"},
		{Namespace: "payments", Name: "gone-db", Pod: "gone"},
	}}
	if diff := cmp.Diff(want, gather(t, a).Statuses); diff != "" {
		t.Errorf("Statuses (-want +got):\n%s", diff)
	}
}
