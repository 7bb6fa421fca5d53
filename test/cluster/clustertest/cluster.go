package clustertest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/portcullis-csi/portcullis/test/cluster/controlplane"
)

// Options of a cluster. The zero value is complete.
type Options struct {
	Args []string // flags of kube-apiserver: "--name=value"
}

// Cluster is a running control plane.
type Cluster struct {
	*controlplane.ControlPlane

	// Client may do everything.
	Client kubernetes.Interface
}

// Start starts a cluster and stops it at the end of the test. The first start on
// a machine builds the programs, which takes minutes: `go run ./test/cluster
// build` does that without a test's timeout.
func Start(tb testing.TB, o Options) *Cluster {
	tb.Helper()
	programs, err := controlplane.Build(tb.Context(), os.Stderr)
	if err != nil {
		tb.Fatal(err)
	}
	cp, err := controlplane.Start(tb.Context(), programs, controlplane.Config{Args: o.Args})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Log(cp.Logs())
		}
		if err := cp.Stop(); err != nil {
			tb.Errorf("Stop() = %v, want nil", err)
		}
	})
	client, err := kubernetes.NewForConfig(cp.Admin())
	if err != nil {
		tb.Fatal(err)
	}
	return &Cluster{ControlPlane: cp, Client: client}
}

// Restart starts the API server again after StopAPIServer.
func (c *Cluster) Restart(tb testing.TB, args ...string) {
	tb.Helper()
	if err := c.StartAPIServer(tb.Context(), args...); err != nil {
		tb.Fatal(err)
	}
}

// Apply creates the objects of manifests, or updates them, as kubectl apply
// --server-side does. Namespaces and service accounts come first in a file:
// nobody waits for objects that others need, except for the definitions of
// custom resources.
func (c *Cluster) Apply(tb testing.TB, manifests string) {
	tb.Helper()
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader([]byte(manifests)), 4<<10)
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(object)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			tb.Fatal(err)
		}
		if len(object.Object) > 0 {
			c.apply(tb, object)
		}
	}
}

// ApplyFiles applies every file that matches a pattern of filepath.Glob, in the
// order of their names.
func (c *Cluster) ApplyFiles(tb testing.TB, pattern string) {
	tb.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		tb.Fatalf("Glob(%s) = %d files, %v, want some", pattern, len(paths), err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			tb.Fatal(err)
		}
		c.Apply(tb, string(text))
	}
}

// applyTimeout bounds the wait for the resources of a definition to be served.
const applyTimeout = 20 * time.Second

func (c *Cluster) apply(tb testing.TB, object *unstructured.Unstructured) {
	tb.Helper()
	client, err := dynamic.NewForConfig(c.Admin())
	if err != nil {
		tb.Fatal(err)
	}
	deadline := time.Now().Add(applyTimeout)
	for {
		err := c.tryApply(tb.Context(), client, object)
		if err == nil {
			return
		}
		// A definition that was just made is served a moment later.
		if !meta.IsNoMatchError(err) && !apierrors.IsNotFound(err) || time.Now().After(deadline) {
			tb.Fatalf("apply %s %s: %v", object.GetKind(), object.GetName(), err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (c *Cluster) tryApply(ctx context.Context, client dynamic.Interface, object *unstructured.Unstructured) error {
	groups, err := restmapper.GetAPIGroupResources(discovery.NewDiscoveryClientForConfigOrDie(c.Admin()))
	if err != nil {
		return err
	}
	kind := object.GroupVersionKind()
	mapping, err := restmapper.NewDiscoveryRESTMapper(groups).RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return err
	}
	var resource dynamic.ResourceInterface = client.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		namespace := object.GetNamespace()
		if namespace == "" {
			namespace = corev1.NamespaceDefault
		}
		resource = client.Resource(mapping.Resource).Namespace(namespace)
	}
	_, err = resource.Apply(ctx, object.GetName(), object, metav1.ApplyOptions{FieldManager: "test", Force: true})
	return err
}

// CreateNamespace makes a namespace with its default service account, which a
// controller makes in a whole cluster.
func (c *Cluster) CreateNamespace(tb testing.TB, name string, labels map[string]string) {
	tb.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	if _, err := c.Client.CoreV1().Namespaces().Create(tb.Context(), namespace, metav1.CreateOptions{}); err != nil {
		tb.Fatal(err)
	}
	c.CreateServiceAccount(tb, name, "default")
}

// CreateServiceAccount makes a service account.
func (c *Cluster) CreateServiceAccount(tb testing.TB, namespace, name string) *corev1.ServiceAccount {
	tb.Helper()
	made, err := c.Client.CoreV1().ServiceAccounts(namespace).Create(tb.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	return made
}

// CreatePod makes a pod. One with a node name is bound to it: there is no
// scheduler, and nothing runs.
func (c *Cluster) CreatePod(tb testing.TB, pod *corev1.Pod) *corev1.Pod {
	tb.Helper()
	made, err := c.Client.CoreV1().Pods(pod.Namespace).Create(tb.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	return made
}

// DeletePod removes a pod at once, as kubelet does when its containers have
// ended.
func (c *Cluster) DeletePod(tb testing.TB, pod *corev1.Pod) {
	tb.Helper()
	now := metav1.DeleteOptions{GracePeriodSeconds: new(int64), Preconditions: &metav1.Preconditions{UID: new(pod.UID)}}
	if err := c.Client.CoreV1().Pods(pod.Namespace).Delete(tb.Context(), pod.Name, now); err != nil {
		tb.Fatal(err)
	}
}

// As is the configuration of a client with a token of this service account.
func (c *Cluster) As(tb testing.TB, namespace, serviceAccount string) *rest.Config {
	tb.Helper()
	return c.WithToken(c.token(tb, types.NamespacedName{Namespace: namespace, Name: serviceAccount}, authv1.TokenRequestSpec{}))
}

// BoundToken is a token of a pod's service account for one audience, bound to
// the pod, as kubelet asks for.
func (c *Cluster) BoundToken(tb testing.TB, pod *corev1.Pod, audience string) string {
	tb.Helper()
	return c.token(tb, types.NamespacedName{Namespace: pod.Namespace, Name: pod.Spec.ServiceAccountName}, authv1.TokenRequestSpec{
		Audiences:      []string{audience},
		BoundObjectRef: &authv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID},
	})
}

func (c *Cluster) token(tb testing.TB, account types.NamespacedName, spec authv1.TokenRequestSpec) string {
	tb.Helper()
	answer, err := c.Client.CoreV1().ServiceAccounts(account.Namespace).CreateToken(tb.Context(), account.Name, &authv1.TokenRequest{Spec: spec}, metav1.CreateOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	return answer.Status.Token
}

// Kubeconfig writes a file for kubectl and for --kubeconfig, and returns its
// path.
func (c *Cluster) Kubeconfig(tb testing.TB, config *rest.Config) string {
	tb.Helper()
	const name = "test"
	file := clientcmdapi.NewConfig()
	file.Clusters[name] = &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	file.AuthInfos[name] = &clientcmdapi.AuthInfo{ClientCertificateData: config.CertData, ClientKeyData: config.KeyData, Token: config.BearerToken}
	file.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	file.CurrentContext = name
	path := filepath.Join(tb.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*file, path); err != nil {
		tb.Fatal(err)
	}
	return path
}
