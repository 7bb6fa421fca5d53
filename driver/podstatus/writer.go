package podstatus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"
)

const (
	workers = 4
	// requestTimeout bounds an attempt at one object, all its requests together,
	// and one page of a list.
	requestTimeout = 30 * time.Second
	// maxListTries is how often the list is asked for; after that each write
	// finds out by itself. A list may be what an API server cannot do.
	maxListTries = 10
	// maxPages bounds how long others' objects under our label are read: a node
	// has some hundred of its own.
	maxPages     = 20
	firstRetry   = 500 * time.Millisecond
	longestRetry = time.Minute
	// retryJitter is the share by which a wait is lengthened at random, so that
	// the nodes of a cluster do not come back to an API server at once.
	retryJitter = 0.5
)

// objectKey names a status object.
type objectKey struct{ namespace, name string }

// WriterConfig configures a Writer. Every field is required but where it says
// otherwise.
type WriterConfig struct {
	REST   *rest.Config // how to reach the API server; it is copied
	Node   string       // name of this node, as in the API server
	Logger *slog.Logger
	// FirstRetry and LongestRetry bound the wait after a write that failed;
	// absent: half a second and a minute.
	FirstRetry, LongestRetry time.Duration
}

// Writer keeps the status objects of the pods of one node. Its methods may be
// called at any time, from any goroutine.
type Writer struct {
	c       WriterConfig
	client  client
	backoff workqueue.TypedRateLimiter[objectKey]

	mu       sync.Mutex
	objects  map[objectKey]*entry
	volumes  map[volumeKey]objectKey
	troubles troubles
	lane     lane
	queue    queue // nil while Run does not run
}

type queue = workqueue.TypedDelayingInterface[objectKey]

// entry is the object of one pod and one class.
type entry struct {
	podUID   string
	volumes  map[string]Status                   // by name of the volume, vetted; never empty
	changes  int                                 // how often they have changed
	dirty    bool                                // and the API server may not have it yet
	queued   bool                                // and somebody will come and look
	live     *spcv1.SecretProviderClassPodStatus // see kept
	troubled trouble
}

// NewWriter returns a Writer, or an error that names the missing field.
func NewWriter(c WriterConfig) (*Writer, error) {
	switch {
	case c.REST == nil:
		return nil, errors.New("configure status writer: REST is missing")
	case c.Node == "":
		return nil, errors.New("configure status writer: Node is missing")
	case c.Logger == nil:
		return nil, errors.New("configure status writer: Logger is missing")
	}
	if c.FirstRetry <= 0 {
		c.FirstRetry = firstRetry
	}
	if c.LongestRetry <= 0 {
		c.LongestRetry = longestRetry
	}
	own, err := newStatusClient(c.REST)
	if err != nil {
		return nil, fmt.Errorf("configure status writer: %w", err)
	}
	return &Writer{
		c: c, client: own, objects: map[objectKey]*entry{}, volumes: map[volumeKey]objectKey{}, troubles: newTroubles(c.Logger), lane: newLane(),
		backoff: workqueue.NewTypedItemExponentialFailureRateLimiter[objectKey](c.FirstRetry, c.LongestRetry),
	}, nil
}

// Set says what a volume holds. It returns at once; the status is written when
// that is possible, and not at all where the API server has it already.
func (w *Writer) Set(s Status) {
	if err := s.check(); err != nil {
		w.c.Logger.Error("status of a volume is not written", slog.Any(keyError, err))
		return
	}
	s = s.vetted()
	k := s.object()
	w.mu.Lock()
	defer w.mu.Unlock()
	if old, ok := w.volumes[s.volume()]; ok && old != k {
		w.leave(old, s.volume())
	}
	e := w.objects[k]
	if e != nil && e.podUID != s.PodUID {
		w.remove(k, e) // of a pod that had the name before
		e = nil
	}
	if e == nil {
		e = &entry{podUID: s.PodUID, volumes: map[string]Status{}}
		w.objects[k] = e
	}
	if before, ok := e.volumes[s.Volume]; ok && before.equal(s) {
		return
	}
	e.volumes[s.Volume] = s
	w.volumes[s.volume()] = k
	w.changed(k, e)
}

// Forget says that a volume is gone. What was still to be written of it is not
// written; the object itself goes with its pod, by its owner reference.
func (w *Writer) Forget(podUID, volume string) {
	v := volumeKey{podUID, volume}
	w.mu.Lock()
	defer w.mu.Unlock()
	if k, ok := w.volumes[v]; ok {
		w.leave(k, v)
	}
}

// Pending returns how many status objects the API server does not have yet as
// they should be.
func (w *Writer) Pending() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	var n int64
	for _, e := range w.objects {
		if e.dirty {
			n++
		}
	}
	return n
}

// leave takes one volume out of the object that it shares. The caller holds
// the lock.
func (w *Writer) leave(k objectKey, v volumeKey) {
	e := w.objects[k]
	if len(e.volumes) == 1 {
		w.remove(k, e)
		return
	}
	delete(e.volumes, v.volume)
	delete(w.volumes, v)
	w.changed(k, e)
}

// remove forgets an object. The caller holds the lock.
func (w *Writer) remove(k objectKey, e *entry) {
	for name := range e.volumes {
		delete(w.volumes, volumeKey{e.podUID, name})
	}
	delete(w.objects, k)
	w.backoff.Forget(k)
	w.trouble(e, troubleNone)
}

func (w *Writer) changed(k objectKey, e *entry) {
	e.changes++
	e.dirty = true
	w.enqueue(k, e)
}

// enqueue has a worker look at an object, unless one will do so anyway: changes
// while a write waits are one write. The caller holds the lock.
func (w *Writer) enqueue(k objectKey, e *entry) {
	if w.queue != nil && !e.queued {
		e.queued = true
		w.queue.Add(k)
	}
}

func (w *Writer) trouble(e *entry, t trouble) {
	w.troubles.move(e.troubled, t)
	e.troubled = t
}

// Run writes until its context ends. It reads first, once, what this node wrote
// before its plugin was restarted. It must not be called while it runs.
func (w *Writer) Run(ctx context.Context) {
	w.readBack(ctx)
	q := workqueue.NewTypedDelayingQueue[objectKey]()
	w.mu.Lock()
	w.queue = q
	w.lane.parked = nil // they are in the queue again, as all others
	for k, e := range w.objects {
		e.queued = false
		if e.dirty {
			w.enqueue(k, e)
		}
	}
	w.mu.Unlock()
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for w.next(ctx, q) {
			}
		})
	}
	<-ctx.Done()
	w.mu.Lock()
	w.queue = nil
	w.mu.Unlock()
	q.ShutDown()
	running.Wait()
}

// readBack learns what the API server has of the volumes that are known, so
// that nothing is written again. Without an answer it asks again; where it may
// not ask, each write finds out by itself.
func (w *Writer) readBack(ctx context.Context) {
	var before trouble
	for i := 0; ctx.Err() == nil; i++ {
		err := w.list(ctx)
		t := troubleOf(err)
		if t != before && err != nil && ctx.Err() == nil {
			w.c.Logger.Warn("status objects of this node are not read", slog.String(keyTrouble, string(t)))
		}
		if before = t; err == nil || t == troubleForbidden || t == troubleNotInstalled || t == troubleRefused || t == troubleTooMuch || i+1 >= maxListTries {
			return
		}
		pause := min(w.c.FirstRetry<<min(i, 16), w.c.LongestRetry)
		select {
		case <-ctx.Done():
		case <-time.After(max(wait.Jitter(pause, retryJitter), delayAsked(err))):
		}
	}
}

func (w *Writer) list(ctx context.Context) error {
	next, found := "", 0
	for range maxPages {
		page, err := w.page(ctx, next)
		if err != nil {
			return err
		}
		found += w.adopt(page)
		if next = page.Continue; next == "" {
			w.c.Logger.Info("status objects of mounted volumes read", slog.Int(keyCount, found))
			return nil
		}
	}
	return errTooMuch
}

func (w *Writer) page(ctx context.Context, next string) (*spcv1.SecretProviderClassPodStatusList, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return w.client.list(ctx, NodeLabel(w.c.Node), next)
}

// adopt notes what is live of the objects that are known.
func (w *Writer) adopt(page *spcv1.SecretProviderClassPodStatusList) (found int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range page.Items {
		o := &page.Items[i]
		if e := w.objects[objectKey{o.Namespace, o.Name}]; e != nil {
			o.ManagedFields = nil
			e.live = kept(o.DeepCopy()) // or one of them would keep the page
			found++
		}
	}
	return found
}
