package apiserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"
)

// healthyAfter is how long an attempt to list and watch lasts before the pauses
// between attempts are short again.
const healthyAfter = 2 * time.Minute

// pauses are those of client-go's informers.
func pauses() wait.Backoff {
	return wait.Backoff{Duration: 800 * time.Millisecond, Factor: 2, Jitter: 1, Steps: 6, Cap: 30 * time.Second}
}

// listTimeout bounds the list that a cache begins with.
const listTimeout = time.Minute

// cached is what a watch has told so far of one kind.
type cached struct {
	kind     kind
	selector string
	list     func() runtime.Object // an empty one
	accept   string                // of the list
	follow   string                // of the watch; absent: that of the kind
	client   rest.Interface
	codec    runtime.ParameterCodec
	clock    func() time.Time
	log      *complaints
	store    cache.Store
	mirror   *cache.Reflector
	changed  func(uid string) // nil where nobody wants to know

	mu    sync.Mutex
	heard time.Time // when the store last got what the API server said; zero: never
	full  bool      // the store has had a list
}

// addCaches makes the caches; nothing is asked before Run.
func (r *Reader) addCaches() error {
	scheme := newScheme()
	own := prepared(r.c.REST)
	own.GroupVersion, own.APIPath = &corev1.SchemeGroupVersion, "/api"
	own.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	httpClient, err := rest.HTTPClientFor(own)
	if err != nil {
		return err
	}
	httpClient.CheckRedirect = noRedirect
	client, err := rest.RESTClientForConfigAndClient(own, httpClient)
	if err != nil {
		return err
	}
	codec := runtime.NewParameterCodec(scheme)
	r.pods = &cached{
		kind: podKind, selector: onNode(r.c.Node), accept: acceptJSON, changed: r.c.PodChanged,
		list: func() runtime.Object { return &corev1.PodList{} },
	}
	r.namespaces = &cached{
		kind: namespaceKind, accept: acceptList,
		list: func() runtime.Object { return &metav1.PartialObjectMetadataList{} },
	}
	r.drivers = &cached{
		kind: driverKind, selector: fields.OneTermEqualSelector("metadata.name", r.c.DriverName).String(), accept: acceptJSON,
		list: func() runtime.Object { return &storagev1.CSIDriverList{} },
	}
	all := map[*cached]runtime.Object{r.pods: &corev1.Pod{}, r.namespaces: &metav1.PartialObjectMetadata{}, r.drivers: &storagev1.CSIDriver{}}
	if r.c.ClusterWide {
		delete(all, r.pods)
		r.pods = nil
		r.watchedAccounts = &cached{
			kind: accountKind, accept: acceptList, follow: acceptMetadata,
			list: func() runtime.Object { return &metav1.PartialObjectMetadataList{} },
		}
		r.watchedSPCs = &cached{kind: classKind, accept: acceptJSON, list: func() runtime.Object { return &spcv1.SecretProviderClassList{} }}
		all[r.watchedAccounts], all[r.watchedSPCs] = &metav1.PartialObjectMetadata{}, &spcv1.SecretProviderClass{}
	}
	for c, of := range all {
		c.client, c.codec, c.clock, c.log = client, codec, r.c.Clock, &r.log
		c.mirrorInto(of)
	}
	return nil
}

// onNode selects the pods of a node.
func onNode(node string) string { return fields.OneTermEqualSelector("spec.nodeName", node).String() }

// mirrorInto has the store follow the API server once the cache runs. There is no
// queue between them, as in an informer: what was heard must be in the store by
// the time it is believed.
func (c *cached) mirrorInto(of runtime.Object) {
	c.store = cache.NewStore(cache.MetaNamespaceKeyFunc, cache.WithTransformer(strip))
	c.mirror = cache.NewReflectorWithOptions(&cache.ListWatch{
		ListWithContextFunc: c.listAll, WatchFuncWithContext: c.watch,
	}, of, heardStore{c.store, c}, cache.ReflectorOptions{Name: string(c.kind), TypeDescription: string(c.kind)})
}

// run lists and watches until the context ends, again after each failure.
func (c *cached) run(ctx context.Context) {
	pause := pauses()
	for ctx.Err() == nil {
		began := time.Now()
		if err := c.mirror.ListAndWatchWithContext(ctx); err != nil {
			c.complain(ctx, err)
		}
		if time.Since(began) > healthyAfter {
			pause = pauses()
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause.Step()):
		}
	}
}

func (c *cached) complain(ctx context.Context, err error) {
	if ctx.Err() != nil || errors.Is(err, io.EOF) || apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return // ended, or begins anew, which is how watches live
	}
	reason, code := reasonOf(err)
	if code != 0 {
		err = nil // the API server's words
	}
	c.log.warn(ctx, &UnavailableError{Object: string(c.kind) + " (watch)", Reason: reason, Code: code}, err)
}

// heardStore notes, after each change, that the store is now as the API server
// said.
type heardStore struct {
	cache.Store
	c *cached
}

func (s heardStore) Add(o any) error    { return s.put(o, s.Store.Add) }
func (s heardStore) Update(o any) error { return s.put(o, s.Store.Update) }
func (s heardStore) Delete(o any) error { return s.c.after(s.Store.Delete(o)) }

// Bookmark says that there is nothing new.
func (s heardStore) Bookmark(string) error { return s.c.after(nil) }

// Transformer has lists that come as a stream stripped as they come.
func (s heardStore) Transformer() cache.TransformFunc { return strip }

func (s heardStore) Replace(all []any, version string) error {
	err := s.replace(all, version)
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.c.full = s.c.full || err == nil
	return err
}

func (c *cached) after(err error) error {
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.heard = c.clock()
	}
	return err
}

func (c *cached) request(options *metav1.ListOptions, accept string) *rest.Request {
	options.FieldSelector = c.selector
	s := c.kind.served()
	return c.client.Get().AbsPath(s.root, s.resource).SetHeader("Accept", accept).VersionedParams(options, c.codec).MaxRetries(0)
}

func (c *cached) listAll(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	list := c.list()
	if err := c.request(&options, c.accept).Do(ctx).Into(list); err != nil {
		return nil, err
	}
	return list, nil
}

func (c *cached) watch(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	options.Watch = true
	w, err := c.request(&options, cmp.Or(c.follow, c.kind.accept())).Watch(ctx)
	if err != nil {
		return nil, err
	}
	// A list that comes as a stream takes the cache's place when it is complete.
	complete := options.SendInitialEvents == nil || !*options.SendInitialEvents
	return watch.Filter(w, func(e watch.Event) (watch.Event, bool) {
		if complete && c.quiet() {
			return missed(), true
		}
		complete = complete || endsList(e)
		return e, true
	}), nil
}

// missed has the cache begin anew. A watch that was silent for longer than it can
// be may have left something out: one of an etcd that was restored from a backup
// tells nothing until the versions are again where they were, and then goes on
// as if nothing had happened in between.
func missed() watch.Event {
	return watch.Event{Type: watch.Error, Object: &metav1.Status{
		Status: metav1.StatusFailure, Reason: metav1.StatusReasonExpired, Code: http.StatusGone,
		Message: "the watch was silent for too long",
	}}
}

// endsList reports whether all that was there before has been streamed.
func endsList(e watch.Event) bool {
	if e.Type != watch.Bookmark {
		return false
	}
	o, ok := e.Object.(metav1.Object)
	return ok && o.GetAnnotations()[metav1.InitialEventsAnnotationKey] == "true"
}

func (c *cached) synced() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.full
}

// quiet reports whether nothing was heard for so long that nobody knows what has
// happened since.
func (c *cached) quiet() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	age := c.clock().Sub(c.heard)
	return c.heard.IsZero() || age < 0 || age >= quietAfter
}

// lookUp returns the cache's own object, which must not be changed.
func lookUp[T object](c *cached, namespace, name string) (T, bool) {
	var none T
	if c == nil || c.quiet() {
		return none, false
	}
	found, exists, err := c.store.GetByKey(cache.NewObjectName(namespace, name).String())
	if err != nil || !exists {
		return none, false
	}
	o, ok := found.(T)
	return o, ok
}

// Run fills the caches until the context ends. It may be called once.
func (r *Reader) Run(ctx context.Context) error {
	if !r.running.CompareAndSwap(false, true) {
		return errors.New("run the caches of the API server: they were run before: make a new Reader")
	}
	var wg sync.WaitGroup
	for _, c := range r.caches() {
		wg.Go(func() { c.run(ctx) })
	}
	wg.Wait()
	return nil
}

func (r *Reader) caches() []*cached {
	all := []*cached{r.pods, r.namespaces, r.drivers, r.watchedAccounts, r.watchedSPCs}
	return slices.DeleteFunc(all, func(c *cached) bool { return c == nil })
}

// Synced returns nil once every cache has been filled, else an error that names
// one that was not. Reads work all the same.
func (r *Reader) Synced() error {
	for _, c := range r.caches() {
		if !c.synced() {
			return fmt.Errorf("the API server has not yet listed every %s: check that it can be reached and that the plugin's ClusterRole is applied", c.kind)
		}
	}
	return nil
}
