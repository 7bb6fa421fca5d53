package podstatus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"
)

const (
	resourceStatuses = "secretproviderclasspodstatuses"
	resourceEvents   = "events"
	// pageSize is how many objects one answer to a list has.
	pageSize = 500
	// maxPage bounds such an answer. Ours have about 1 kB each; but whoever may
	// write these objects in some namespace can put our label on as many as they
	// like, of more than 1 MiB each, and would otherwise choose how much memory a
	// start takes.
	maxPage = 16 << 20
	// noRateLimit leaves it to the API server to say that it is too much: what
	// bounds us is the number of workers.
	noRateLimit = -1
)

// errTooMuch means that there is more under the label of this node than a node
// can have mounted.
var errTooMuch = errors.New("the objects of this node are more, or larger, than this node can have written")

// client is a REST client for one group of the API. Its requests are not tried
// again by themselves: the queue knows better what has become of them.
type client struct {
	rest   rest.Interface
	params runtime.ParameterCodec
}

func newStatusClient(c *rest.Config) (client, error) {
	group := schema.GroupVersion{Group: spcv1.GroupName, Version: spcv1.GroupVersion.Version}
	return newClient(c, "/apis", group, spcv1.AddToScheme)
}

func newEventClient(c *rest.Config) (client, error) {
	return newClient(c, "/api", corev1.SchemeGroupVersion, corev1.AddToScheme)
}

func newClient(c *rest.Config, path string, group schema.GroupVersion, add func(*runtime.Scheme) error) (client, error) {
	scheme := runtime.NewScheme()
	if err := add(scheme); err != nil {
		return client{}, fmt.Errorf("make API client: %w", err)
	}
	own := rest.CopyConfig(c)
	own.APIPath, own.GroupVersion = path, &group
	own.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	own.ContentType, own.AcceptContentTypes = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	own.QPS, own.RateLimiter = noRateLimit, nil
	own.WarningHandler = rest.NoWarnings{}
	httpClient, err := rest.HTTPClientFor(own)
	if err != nil {
		return client{}, fmt.Errorf("make API client: %w", err)
	}
	// Whoever an answer points to would get the credentials, which the transport
	// adds to every request.
	httpClient.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	r, err := rest.RESTClientForConfigAndClient(own, httpClient)
	if err != nil {
		return client{}, fmt.Errorf("make API client: %w", err)
	}
	return client{rest: r, params: runtime.NewParameterCodec(scheme)}, nil
}

func (c client) create(ctx context.Context, o *spcv1.SecretProviderClassPodStatus) (*spcv1.SecretProviderClassPodStatus, error) {
	return status(ctx, c.rest.Post().Namespace(o.Namespace).Resource(resourceStatuses).Body(o))
}

func (c client) get(ctx context.Context, k objectKey) (*spcv1.SecretProviderClassPodStatus, error) {
	return status(ctx, c.rest.Get().Namespace(k.namespace).Resource(resourceStatuses).Name(k.name))
}

func (c client) update(ctx context.Context, o *spcv1.SecretProviderClassPodStatus) (*spcv1.SecretProviderClassPodStatus, error) {
	return status(ctx, c.rest.Put().Namespace(o.Namespace).Resource(resourceStatuses).Name(o.Name).Body(o))
}

// remove deletes exactly the object that was read, and nothing that has come in
// its place or been changed since.
func (c client) remove(ctx context.Context, o *spcv1.SecretProviderClassPodStatus) error {
	options := &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &o.UID, ResourceVersion: &o.ResourceVersion}}
	return c.rest.Delete().Namespace(o.Namespace).Resource(resourceStatuses).Name(o.Name).Body(options).MaxRetries(0).Do(ctx).Error()
}

// list returns one page of the objects of a node, and where the next begins.
func (c client) list(ctx context.Context, node, next string) (*spcv1.SecretProviderClassPodStatusList, error) {
	options := &metav1.ListOptions{LabelSelector: spcv1.InternalNodeLabel + "=" + node, Limit: pageSize, Continue: next}
	body, err := c.rest.Get().Resource(resourceStatuses).VersionedParams(options, c.params).MaxRetries(0).Stream(ctx)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	answer, err := io.ReadAll(io.LimitReader(body, maxPage+1))
	if err != nil {
		return nil, fmt.Errorf("read list of status objects: %w", err)
	}
	if len(answer) > maxPage {
		return nil, errTooMuch
	}
	list := &spcv1.SecretProviderClassPodStatusList{}
	if err := json.Unmarshal(answer, list); err != nil {
		return nil, fmt.Errorf("decode list of status objects: %w", err)
	}
	return list, nil
}

// podUID returns the UID of the pod that has the name now.
func (c client) podUID(ctx context.Context, namespace, name string) (types.UID, error) {
	body, err := c.rest.Get().AbsPath("/api/v1").Namespace(namespace).Resource("pods").Name(name).
		SetHeader("Accept", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1").MaxRetries(0).Do(ctx).Raw()
	if err != nil {
		return "", err
	}
	var pod metav1.PartialObjectMetadata
	if err := json.Unmarshal(body, &pod); err != nil {
		return "", fmt.Errorf("decode metadata of pod: %w", err)
	}
	return pod.UID, nil
}

func status(ctx context.Context, r *rest.Request) (*spcv1.SecretProviderClassPodStatus, error) {
	o := &spcv1.SecretProviderClassPodStatus{}
	if err := r.MaxRetries(0).Do(ctx).Into(o); err != nil {
		return nil, err
	}
	o.ManagedFields = nil // the API server keeps its own; ours would only take memory
	return o, nil
}
