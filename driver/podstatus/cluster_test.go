//go:build integration

package podstatus_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/driver/podstatus"
	"github.com/portcullis-csi/portcullis/test/cluster/clustertest"
)

// cluster is a real API server with our definitions and the plugin's account.
type cluster struct {
	*clustertest.Cluster
	t     *testing.T
	admin rest.Interface // for status objects
	log   *log
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{Cluster: clustertest.Start(t, clustertest.Options{}), t: t, log: &log{}}
	const files = "../../deploy/chart/files"
	c.ApplyFiles(t, "../../deploy/chart/crds/*.yaml")
	c.ApplyFiles(t, files+"/rbac/*.yaml")
	c.CreateNamespace(t, "payments", nil)
	scheme := runtime.NewScheme()
	if err := spcv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	config := rest.CopyConfig(c.Admin())
	config.APIPath, config.GroupVersion = "/apis", &spcv1.SchemeGroupVersion
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	var err error
	if c.admin, err = rest.RESTClientFor(config); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *cluster) account() *rest.Config { return c.As(c.t, "kube-system", "secrets-store-csi-driver") }

// writer returns a writer with the plugin's account, and what ends it. before
// comes before it runs.
func (c *cluster) writer(before ...podstatus.Status) (w *podstatus.Writer, stop func()) {
	c.t.Helper()
	w, err := podstatus.NewWriter(podstatus.WriterConfig{
		REST: c.account(), Node: "node-1", Logger: slog.New(slog.NewTextHandler(c.log, nil)), FirstRetry: 10 * time.Millisecond, LongestRetry: 200 * time.Millisecond,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, s := range before {
		w.Set(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	c.t.Cleanup(stop)
	return w, stop
}

func (c *cluster) await(what string, done func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("%s: not within 20 s; the writer logged:\n%s", what, c.log.text.String())
		}
	}
}

// object returns the status object, nil if there is none.
func (c *cluster) object() *spcv1.SecretProviderClassPodStatus {
	c.t.Helper()
	o := &spcv1.SecretProviderClassPodStatus{}
	err := c.admin.Get().Namespace("payments").Resource(statuses).Name(name).Do(c.t.Context()).Into(o)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return o
}

func (c *cluster) pod() *corev1.Pod {
	c.t.Helper()
	return c.CreatePod(c.t, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "payments", Name: "api-0"},
		Spec:       corev1.PodSpec{NodeName: "node-1", Containers: []corev1.Container{{Name: "main", Image: "registry.example/api:1"}}},
	})
}

func of(pod *corev1.Pod, version string) podstatus.Status {
	s := status("secrets", objects("password", version)...)
	s.PodUID = string(pod.UID)
	return s
}

// TestStatusInACluster: the plugin's own account writes, updates, finds again
// after a restart and replaces a status object of a real API server.
func TestStatusInACluster(t *testing.T) {
	c := startCluster(t)
	first := c.pod()
	w, stop := c.writer()
	written := func() bool { return w.Pending() == 0 }
	w.Set(of(first, "7"))
	c.await("first status", written)
	made := c.object()
	if made == nil || len(made.Status.Objects) != 1 || made.Status.Objects[0].Version != "7" || made.OwnerReferences[0].UID != first.UID {
		t.Fatalf("object = %+v, want version 7 of the pod", made)
	}
	w.Set(of(first, "8"))
	c.await("changed status", written)
	changed := c.object()
	if changed.Status.Objects[0].Version != "8" || changed.UID != made.UID {
		t.Errorf("object = %+v, want version 8 in place", changed)
	}
	stop()
	w, _ = c.writer(of(first, "8"))
	c.await("status after a restart", written)
	if again := c.object(); again.ResourceVersion != changed.ResourceVersion {
		t.Errorf("resourceVersion = %s after a restart, want %s: nothing to write", again.ResourceVersion, changed.ResourceVersion)
	}
	// A StatefulSet's pod comes again before the collector has come.
	c.DeletePod(t, first)
	second := c.pod()
	w.Set(of(second, "8"))
	w.Forget(string(first.UID), "secrets")
	c.await("status of the next pod", written)
	if next := c.object(); next == nil || next.UID == made.UID || len(next.OwnerReferences) != 1 || next.OwnerReferences[0].UID != second.UID {
		t.Errorf("object = %+v, want a new one of the new pod", next)
	}
	w.Forget(string(second.UID), "secrets")
	if n := w.Held(); n != 0 {
		t.Errorf("the writer holds %d things, want none", n)
	}
}

// TestStatusSurvivesAnOutage: the API server ends and comes back.
func TestStatusSurvivesAnOutage(t *testing.T) {
	c := startCluster(t)
	pod := c.pod()
	w, _ := c.writer()
	w.Set(of(pod, "7"))
	c.await("first status", func() bool { return w.Pending() == 0 })
	c.StopAPIServer()
	w.Set(of(pod, "8"))
	c.await("a write that failed", func() bool { return c.log.count("trouble=api-server-unreachable") == 1 })
	w.Set(of(pod, "9"))
	c.Restart(t)
	c.await("status after the outage", func() bool { return w.Pending() == 0 })
	if got := c.object().Status.Objects[0].Version; got != "9" {
		t.Errorf("version = %s, want 9", got)
	}
	if n := c.log.count("trouble=api-server-unreachable"); n != 2 {
		t.Errorf("%d lines about the outage, want 2: its begin and its end", n)
	}
}

// TestNamespaceThatEnds: what an API server answers where nothing new may be
// made, and where nothing is left.
func TestNamespaceThatEnds(t *testing.T) {
	c := startCluster(t)
	pod := c.pod()
	w, _ := c.writer()
	// It stays Terminating: there is no controller that ends it.
	if err := c.Client.CoreV1().Namespaces().Delete(t.Context(), "payments", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.Set(of(pod, "7"))
	c.await("status dropped", func() bool { return w.Held() == 0 })
	gone := of(pod, "7")
	gone.Namespace = "never-was"
	w.Set(gone)
	c.await("status dropped", func() bool { return w.Held() == 0 })
	if n := c.log.count("dropped"); n != 2 {
		t.Errorf("%d lines, want 2 objects dropped:\n%s", n, c.log.text.String())
	}
}

// TestDefinitionsThatAreMissing: the plugin is installed before its CRDs.
func TestDefinitionsThatAreMissing(t *testing.T) {
	c := startCluster(t)
	pod := c.pod()
	const definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/secretproviderclasspodstatuses.secrets-store.csi.x-k8s.io"
	if err := c.Client.CoreV1().RESTClient().Delete().AbsPath(definition).Do(t.Context()).Error(); err != nil {
		t.Fatal(err)
	}
	c.await("resource gone", func() bool {
		err := c.admin.Get().Namespace("payments").Resource(statuses).Do(t.Context()).Error()
		return apierrors.IsNotFound(err)
	})
	w, _ := c.writer(of(pod, "7"))
	c.await("a write that failed", func() bool { return c.log.count("not written, mounting goes on\" trouble=crd-not-installed") == 1 })
	c.ApplyFiles(t, "../../deploy/chart/crds/*.yaml")
	c.await("status", func() bool { return w.Pending() == 0 })
}

// refusing refuses new status objects in the namespace.
const refusing = `apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: refusing}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [secrets-store.csi.x-k8s.io], apiVersions: ["*"], operations: [CREATE], resources: [secretproviderclasspodstatuses]}
  validations: [{expression: "false", message: no such objects here}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: refusing}
spec: {policyName: refusing, validationActions: [Deny]}
`

// TestAdmissionPolicyThatIsMended: what a policy refuses is written once it does
// not any more.
func TestAdmissionPolicyThatIsMended(t *testing.T) {
	c := startCluster(t)
	pod := c.pod()
	c.Apply(t, refusing)
	c.await("the policy is in force", func() bool {
		err := c.admin.Post().Namespace("payments").Resource(statuses).Param("dryRun", "All").Body(stored("probe", uid)).Do(t.Context()).Error()
		return err != nil
	})
	w, _ := c.writer()
	w.Set(of(pod, "7"))
	c.await("a write that was refused", func() bool { return c.log.count("not written, mounting goes on\" trouble=object-refused") == 1 })
	if n := w.Pending(); n != 1 {
		t.Errorf("pending = %d, want the status that was refused", n)
	}
	if err := c.Client.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().Delete(t.Context(), "refusing", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.await("status", func() bool { return w.Pending() == 0 && c.object() != nil })
}

// TestQuotaThatIsSpent: a namespace's owner may forbid these objects.
func TestQuotaThatIsSpent(t *testing.T) {
	c := startCluster(t)
	pod := c.pod()
	const counted = "count/secretproviderclasspodstatuses.secrets-store.csi.x-k8s.io"
	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: "payments", Name: "none"}, Spec: corev1.ResourceQuotaSpec{
		Hard: corev1.ResourceList{counted: *apiresource.NewQuantity(0, apiresource.DecimalSI)},
	}}
	made, err := c.Client.CoreV1().ResourceQuotas("payments").Create(t.Context(), quota, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	made.Status.Hard, made.Status.Used = made.Spec.Hard, made.Spec.Hard // there is no controller that counts
	if _, err := c.Client.CoreV1().ResourceQuotas("payments").UpdateStatus(t.Context(), made, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	w, _ := c.writer()
	w.Set(of(pod, "7"))
	c.await("a write that was refused", func() bool { return c.log.count("not written, mounting goes on\" trouble=forbidden") == 1 })
	if err := c.Client.CoreV1().ResourceQuotas("payments").Delete(t.Context(), "none", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.await("status", func() bool { return w.Pending() == 0 && c.object() != nil })
}

// TestEventsInACluster: the plugin's account may write them, and repeats are
// counted in one.
func TestEventsInACluster(t *testing.T) {
	c := startCluster(t)
	pod := c.pod()
	e, err := podstatus.NewEvents(podstatus.EventsConfig{REST: c.account(), Node: "node-1", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	deliver(t, e)
	for range 3 {
		ev := event(podstatus.RotationFailed)
		ev.PodUID, ev.Reason = string(pod.UID), "ProviderUnavailable"
		e.Say(ev)
	}
	c.await("three events in one", func() bool {
		list, err := c.Client.CoreV1().Events("payments").List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.uid=" + string(pod.UID)})
		if err != nil {
			t.Fatal(err)
		}
		return len(list.Items) == 1 && list.Items[0].Count == 3 && list.Items[0].Reason == "MountRotationFailed"
	})
	if n := e.Dropped(); n != 0 {
		t.Errorf("dropped = %d, want 0", n)
	}
}
