package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/policies/kube"
)

const (
	maxObjectBytes = 3 << 20 // the API server itself takes no larger ones
	maxListBytes   = 64 << 20
	maxStatusBytes = 64 << 10
	pageSize       = 250
	maxPages       = 10_000
	// maxAsked is how many objects are asked for at a time: a person's command must
	// not look like a flood to the API server's priority and fairness.
	maxAsked = 8
)

// The resources that are read, with their groups.
const (
	resourceNamespaces = "namespaces"
	resourceAccounts   = "serviceaccounts"
	resourcePods       = "pods"
	resourceClasses    = "secretproviderclasses." + groupClasses
	groupClasses       = "secrets-store.csi.x-k8s.io"
)

// Reader reads the objects of one cluster for one run of a command. It is safe for
// concurrent use, and asks about an object once, whoever wants it.
type Reader struct {
	base    *url.URL
	http    *http.Client
	decoder runtime.Decoder

	slots chan struct{}
	mu    sync.Mutex
	seen  map[question]*answer
}

type question struct{ resource, namespace, name string }

// answer may be under way: who reads it waits for done.
type answer struct {
	done   chan struct{}
	object runtime.Object
	err    error
}

// New returns a Reader. It asks nobody.
func New(c *rest.Config) (*Reader, error) {
	base, client, err := NewClient(c)
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	scheme.AddKnownTypes(corev1.SchemeGroupVersion, &corev1.Pod{}, &corev1.PodList{}, &corev1.Namespace{}, &corev1.ServiceAccount{})
	scheme.AddKnownTypes(spcv1.SchemeGroupVersion, &spcv1.SecretProviderClass{})
	metav1.AddToGroupVersion(scheme, corev1.SchemeGroupVersion) // Status
	return &Reader{
		base: base, http: client, seen: map[question]*answer{}, slots: make(chan struct{}, maxAsked),
		decoder: json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{}),
	}, nil
}

// Namespace returns a namespace.
func (r *Reader) Namespace(ctx context.Context, name string) (*corev1.Namespace, error) {
	return get[*corev1.Namespace](ctx, r, question{resourceNamespaces, "", name})
}

// ServiceAccount returns a service account.
func (r *Reader) ServiceAccount(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	return get[*corev1.ServiceAccount](ctx, r, question{resourceAccounts, namespace, name})
}

// Class returns a SecretProviderClass.
func (r *Reader) Class(ctx context.Context, namespace, name string) (*spcv1.SecretProviderClass, error) {
	return get[*spcv1.SecretProviderClass](ctx, r, question{resourceClasses, namespace, name})
}

// Pods calls each for every pod of a namespace, of all where it is "", that has
// not ended and is not being deleted: neither mounts anything any more. What each
// returns ends the list.
func (r *Reader) Pods(ctx context.Context, namespace string, each func(*corev1.Pod) error) error {
	return r.EveryPod(ctx, namespace, func(p *corev1.Pod) error {
		if phase := p.Status.Phase; phase == corev1.PodSucceeded || phase == corev1.PodFailed || p.DeletionTimestamp != nil {
			return nil
		}
		return each(p)
	})
}

// EveryPod is Pods with those that have ended or are being deleted.
//
// A list that takes minutes may become too old to be gone on with (410). It is then
// read once more from its beginning, and each does not get again what it had.
func (r *Reader) EveryPod(ctx context.Context, namespace string, each func(*corev1.Pod) error) error {
	type identity struct {
		namespace, name string
		uid             types.UID // a pod of a StatefulSet may be another one by then
	}
	had := map[identity]bool{}
	of := func(p *corev1.Pod) identity { return identity{p.Namespace, p.Name, p.UID} }
	tooOld, err := r.everyPage(ctx, namespace, func(p *corev1.Pod) error {
		had[of(p)] = true
		return each(p)
	})
	if tooOld {
		_, err = r.everyPage(ctx, namespace, func(p *corev1.Pod) error {
			if had[of(p)] {
				return nil
			}
			return each(p)
		})
	}
	return err
}

// everyPage reads a list page by page. It reports whether the API server has
// forgotten what the list was of, after a page of it.
func (r *Reader) everyPage(ctx context.Context, namespace string, each func(*corev1.Pod) error) (tooOld bool, err error) {
	asked := question{resourcePods, namespace, ""}
	query := url.Values{"limit": {strconv.Itoa(pageSize)}}
	for range maxPages {
		decoded, err := r.ask(ctx, asked, query)
		if refused, ok := errors.AsType[*RefusedError](err); ok {
			return refused.Code == http.StatusGone && query.Has("continue"), err
		}
		if err != nil {
			return false, err
		}
		list, ok := decoded.(*corev1.PodList)
		if !ok {
			return false, asked.invalid()
		}
		for i := range list.Items {
			if err := each(&list.Items[i]); err != nil {
				return false, err
			}
		}
		if list.Continue == "" {
			return false, nil
		}
		query.Set("continue", list.Continue)
	}
	return false, fmt.Errorf("list pods: more than %d; hint: name one namespace", maxPages*pageSize)
}

// get asks for an object once and remembers the answer, whatever it is.
func get[T runtime.Object](ctx context.Context, r *Reader, q question) (T, error) {
	var none T
	object, err := r.once(ctx, q)
	if err != nil {
		return none, err
	}
	found, ok := object.(T)
	if !ok {
		return none, q.invalid()
	}
	return found, nil
}

// once asks, unless somebody has: then it waits for that answer. A question that was
// given up has none, and is asked again by whoever comes next.
func (r *Reader) once(ctx context.Context, q question) (runtime.Object, error) {
	r.mu.Lock()
	a, asked := r.seen[q]
	if !asked {
		a = &answer{done: make(chan struct{})}
		r.seen[q] = a
	}
	r.mu.Unlock()
	if asked {
		select {
		case <-a.done:
			return a.object, a.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	r.slots <- struct{}{}
	a.object, a.err = r.ask(ctx, q, nil)
	<-r.slots
	if ctx.Err() != nil {
		r.mu.Lock()
		delete(r.seen, q)
		r.mu.Unlock()
	}
	close(a.done)
	return a.object, a.err
}

func (r *Reader) ask(ctx context.Context, q question, query url.Values) (runtime.Object, error) {
	if !q.possible() {
		return nil, fmt.Errorf("%s %q: %w: nothing can have this name", q.resource, q.name, kube.ErrNotFound)
	}
	u := *r.base
	u.Path = path.Join("/", u.Path, q.path())
	u.RawQuery = query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, q.refused(0, errors.New("its address is not a URL"))
	}
	request.Header.Set("Accept", acceptJSON)
	answer, err := r.http.Do(request)
	if err != nil {
		return nil, q.refused(0, withoutURL(err))
	}
	defer answer.Body.Close()
	limit := int64(maxObjectBytes)
	switch {
	case answer.StatusCode != http.StatusOK:
		limit = maxStatusBytes
	case q.name == "":
		limit = maxListBytes
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, limit+1))
	if err != nil {
		return nil, q.refused(0, withoutURL(err))
	}
	decoded, _, err := r.decoder.Decode(body, nil, nil)
	if answer.StatusCode != http.StatusOK {
		return nil, q.notOK(answer.StatusCode, decoded)
	}
	if err != nil || int64(len(body)) > limit {
		return nil, q.invalid()
	}
	return decoded, nil
}

// withoutURL drops the address, which may hold a password and is known anyway.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// notOK tells an object that does not exist from a resource that is not served.
func (q question) notOK(code int, decoded runtime.Object) error {
	status, ok := decoded.(*metav1.Status)
	if code == http.StatusNotFound && q.name != "" && ok && status.Reason == metav1.StatusReasonNotFound &&
		status.Details != nil && status.Details.Name == q.name {
		return fmt.Errorf("%s %q in namespace %q: %w", q.resource, q.name, q.namespace, kube.ErrNotFound)
	}
	return q.refused(code, nil)
}

func (q question) refused(code int, cause error) error {
	verb := "get"
	if q.name == "" {
		verb = "list"
	}
	return &RefusedError{Verb: verb, Resource: q.resource, Namespace: q.namespace, Name: q.name, Code: code, Cause: cause}
}

func (q question) invalid() error {
	return q.refused(0, errors.New("what came is no such object"))
}

func (q question) path() string {
	root, resource := "/api/v1", q.resource
	if resource == resourceClasses {
		root, resource = "/apis/"+spcv1.SchemeGroupVersion.String(), "secretproviderclasses"
	}
	if q.namespace != "" {
		root += "/namespaces/" + q.namespace
	}
	return path.Join(root, resource, q.name)
}

// possible reports whether an object can have this name: with a slash it would be
// another path.
func (q question) possible() bool {
	if q.namespace != "" && len(validation.IsDNS1123Label(q.namespace)) > 0 {
		return false
	}
	return q.name == "" && q.resource == resourcePods || len(validation.IsDNS1123Subdomain(q.name)) == 0
}
