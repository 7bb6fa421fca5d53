package apiserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"
)

const (
	defaultReadTimeout = 5 * time.Second
	maxReadTimeout     = 30 * time.Second // kubelet gives a publish two minutes
	// shareFor is how long a class or a service account that was read is given
	// to other callers: pods of one Deployment start together. It is also how
	// long granting outlives the API server.
	shareFor = 2 * time.Second
	// quietAfter is when a watch that says nothing is not believed any more. The
	// API server sends a bookmark each minute, or less often while nothing at all
	// changes: then reads are live for a while.
	quietAfter = 3 * time.Minute
)

// Config of a Reader. Every field is required but where it says otherwise.
type Config struct {
	REST *rest.Config // is copied
	// Node is the name of this node, as in the API server; absent: ClusterWide.
	Node string
	// ClusterWide is for the webhook: classes and service accounts of the whole
	// cluster come from a watch too, and no pods do.
	ClusterWide bool
	DriverName  string // name of the CSIDriver object
	Logger      *slog.Logger
	// Clock is absent: time.Now. A test can let time pass.
	Clock func() time.Time
	// PodChanged is called with the UID of a pod of this node whose containers
	// have other images than before, or are more; absent: nobody is told. It
	// must not wait: the watch does while it runs.
	PodChanged func(uid string)
	// ReadTimeout bounds one request; absent: five seconds.
	ReadTimeout time.Duration
}

// Reader reads objects of one cluster for one node. Its methods may be called at
// the same time, before, during and after Run.
type Reader struct {
	c        Config
	base     *url.URL
	http     atomic.Pointer[http.Client] // for single reads
	decoder  runtime.Decoder
	running  atomic.Bool
	log      complaints
	troubles troubles

	pods, namespaces, drivers    *cached
	watchedAccounts, watchedSPCs *cached // nil but where the reader is cluster-wide
	classes                      *shared[*spcv1.SecretProviderClass]
	accounts                     *shared[*corev1.ServiceAccount]
}

// New returns a Reader, or an error that names the field. It asks nobody.
func New(c Config) (*Reader, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	c.REST = rest.CopyConfig(c.REST)
	if c.ReadTimeout == 0 {
		c.ReadTimeout = defaultReadTimeout
	}
	r := &Reader{c: c, decoder: newDecoder()}
	r.log = complaints{logger: c.Logger, clock: c.Clock}
	r.troubles.clock = c.Clock
	r.classes = newShared[*spcv1.SecretProviderClass](c)
	r.accounts = newShared[*corev1.ServiceAccount](c)
	base, client, err := newClient(c.REST)
	if err != nil {
		return nil, fmt.Errorf("configure the API server: %w", err)
	}
	r.base = base
	r.http.Store(client)
	if err := r.addCaches(); err != nil {
		return nil, fmt.Errorf("configure the API server: %w", err)
	}
	return r, nil
}

func (c Config) check() error {
	switch {
	case c.REST == nil:
		return errors.New("configure the API server: REST is missing")
	case c.Logger == nil:
		return errors.New("configure the API server: Logger is missing")
	case c.ClusterWide && c.Node != "":
		return errors.New("configure the API server: Node is set, and the reader is for the whole cluster")
	case !c.ClusterWide && len(validation.IsDNS1123Subdomain(c.Node)) > 0:
		return errors.New("configure the API server: Node is missing or not the name of a node: give --nodeid as in kubectl get nodes")
	case len(validation.IsDNS1123Subdomain(c.DriverName)) > 0:
		return errors.New("configure the API server: DriverName is missing or not the name of a CSIDriver")
	case c.ReadTimeout < 0 || c.ReadTimeout > maxReadTimeout:
		return fmt.Errorf("configure the API server: ReadTimeout is not between 0 and %v", maxReadTimeout)
	}
	return checkREST(c.REST)
}

// Pod returns the pod of this name, with what a decision reads of it. The UID is
// the one that kubelet claims: a cached pod of another UID is read again, since a
// StatefulSet gives its pods the names of those before, and so is one that is
// too large to be kept. The answer may still be another pod; the caller compares.
func (r *Reader) Pod(ctx context.Context, namespace, name, uid string) (*corev1.Pod, error) {
	if pod, ok := lookUp[*corev1.Pod](r.pods, namespace, name); ok && pod.UID != "" && string(pod.UID) == uid {
		return pod.DeepCopy(), nil
	}
	pod, err := read[*corev1.Pod](ctx, r, podKind.of(namespace, name))
	if err != nil {
		return nil, err
	}
	return stripPod(pod), nil
}

// Namespace returns a namespace: its metadata without annotations, and nothing
// else.
func (r *Reader) Namespace(ctx context.Context, name string) (*corev1.Namespace, error) {
	if found, ok := lookUp[*metav1.PartialObjectMetadata](r.namespaces, "", name); ok {
		return &corev1.Namespace{ObjectMeta: *found.ObjectMeta.DeepCopy()}, nil
	}
	found, err := read[*metav1.PartialObjectMetadata](ctx, r, namespaceKind.of("", name))
	if err != nil {
		return nil, err
	}
	return &corev1.Namespace{ObjectMeta: stripNamespace(found).ObjectMeta}, nil
}

// ServiceAccount returns a service account as it was at most two seconds ago, or as
// the watch of a cluster-wide reader has it: its metadata, and nothing else.
func (r *Reader) ServiceAccount(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	if found, ok := lookUp[*metav1.PartialObjectMetadata](r.watchedAccounts, namespace, name); ok && found.UID != "" {
		return &corev1.ServiceAccount{ObjectMeta: *found.ObjectMeta.DeepCopy()}, nil
	}
	return r.accounts.get(ctx, objectKey{namespace, name}, func(ctx context.Context) (*corev1.ServiceAccount, error) {
		account, err := read[*corev1.ServiceAccount](ctx, r, accountKind.of(namespace, name))
		if err != nil {
			return nil, err
		}
		return &corev1.ServiceAccount{ObjectMeta: stripMeta(&account.ObjectMeta)}, nil
	})
}

// Class returns a SecretProviderClass as it was at most two seconds ago, or as the
// watch of a cluster-wide reader has it.
func (r *Reader) Class(ctx context.Context, namespace, name string) (*spcv1.SecretProviderClass, error) {
	if found, ok := lookUp[*spcv1.SecretProviderClass](r.watchedSPCs, namespace, name); ok && found.UID != "" {
		return found.DeepCopy(), nil
	}
	return r.classes.get(ctx, objectKey{namespace, name}, func(ctx context.Context) (*spcv1.SecretProviderClass, error) {
		class, err := read[*spcv1.SecretProviderClass](ctx, r, classKind.of(namespace, name))
		if err != nil {
			return nil, err
		}
		return &spcv1.SecretProviderClass{ObjectMeta: stripMeta(&class.ObjectMeta), Spec: class.Spec}, nil
	})
}

// CSIDriver returns the CSIDriver object of this driver.
func (r *Reader) CSIDriver(ctx context.Context) (*storagev1.CSIDriver, error) {
	if driver, ok := lookUp[*storagev1.CSIDriver](r.drivers, "", r.c.DriverName); ok {
		return driver.DeepCopy(), nil
	}
	driver, err := read[*storagev1.CSIDriver](ctx, r, driverKind.of("", r.c.DriverName))
	if err != nil {
		return nil, err
	}
	return stripDriver(driver), nil
}
