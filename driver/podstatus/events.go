package podstatus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	eventnames "k8s.io/client-go/tools/record/util"
)

const (
	// eventQueue is how many events wait at most. A node has some hundred
	// volumes; what is beyond is dropped.
	eventQueue = 256
	// eventTries is how often an event is offered to an API server that does
	// not answer.
	eventTries = 3
	// eventLimit bounds one request, and muteFor is how long a namespace is left
	// alone whose event took longer: an admission webhook there must not cost
	// the others theirs.
	eventLimit = 5 * time.Second
	muteFor    = 5 * time.Minute
)

// patternReason is the word of a closed list that an event may repeat.
var patternReason = regexp.MustCompile(`^[A-Z][A-Za-z]{1,63}$`)

// Event is something that the people of a pod should know of and kubelet does
// not tell them. It has no field for text: what is said is fixed here.
type Event struct {
	Kind      EventKind
	Namespace string
	Pod       string // its name
	PodUID    string
	Volume    string // name of the volume in the pod
	Reason    string // of RotationFailed: a word of the audit log's list of reasons
}

// EventsConfig configures Events. Every field is required but where it says
// otherwise.
type EventsConfig struct {
	REST   *rest.Config // how to reach the API server; it is copied
	Node   string       // name of this node, as in the API server
	Logger *slog.Logger
	// RetryAfter is the first wait for an API server that does not answer;
	// absent: half a second.
	RetryAfter time.Duration
}

// Events puts events on pods. They are events of the core API, as kubelet's are
// beside which they are read, and as the upstream driver's were. Repeats are
// counted in one object, and a pod that has too many is not heard for a while:
// client-go's correlator does both. The newer events.k8s.io would need a timer
// for each series, and its recorder has no way to say what it dropped.
type Events struct {
	c          EventsConfig
	client     client
	queue      chan Event
	correlator *record.EventCorrelator
	dropped    atomic.Int64
	limit      time.Duration        // of a request
	muted      map[string]time.Time // of Run alone: until when, by namespace
}

// NewEvents returns Events, or an error that names the missing field.
func NewEvents(c EventsConfig) (*Events, error) {
	switch {
	case c.REST == nil:
		return nil, errors.New("configure pod events: REST is missing")
	case c.Node == "":
		return nil, errors.New("configure pod events: Node is missing")
	case c.Logger == nil:
		return nil, errors.New("configure pod events: Logger is missing")
	}
	if c.RetryAfter <= 0 {
		c.RetryAfter = firstRetry
	}
	own, err := newEventClient(c.REST)
	if err != nil {
		return nil, fmt.Errorf("configure pod events: %w", err)
	}
	return &Events{
		c: c, client: own, queue: make(chan Event, eventQueue), correlator: record.NewEventCorrelator(wallClock{}),
		limit: eventLimit, muted: map[string]time.Time{},
	}, nil
}

// wallClock tells the correlator the time.
type wallClock struct{}

func (wallClock) Now() time.Time                  { return time.Now() }
func (wallClock) Since(t time.Time) time.Duration { return time.Since(t) }

// Say offers an event. It returns at once; an event for which there is no room
// is dropped and counted, and so is one that does not name a pod.
func (e *Events) Say(ev Event) {
	if !ev.valid() {
		e.dropped.Add(1)
		return
	}
	select {
	case e.queue <- ev:
	default:
		e.dropped.Add(1)
	}
}

// Dropped returns how many events nobody will read.
func (e *Events) Dropped() int64 { return e.dropped.Load() }

func (ev Event) valid() bool {
	_, known := said(ev)
	return known && len(validation.IsDNS1123Label(ev.Namespace)) == 0 && len(validation.IsDNS1123Subdomain(ev.Pod)) == 0 &&
		len(validation.IsDNS1123Label(ev.Volume)) == 0 && ev.PodUID != "" && len(ev.PodUID) <= maxUID &&
		(ev.Reason == "" || patternReason.MatchString(ev.Reason))
}

// Run delivers events until its context ends. It must not be called while it
// runs.
func (e *Events) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case ev := <-e.queue:
			if err := e.deliver(ctx, e.object(ev)); err != nil {
				e.dropped.Add(1)
				e.c.Logger.Debug("pod event dropped", slog.String(keyTrouble, string(troubleOf(err))))
			}
		}
	}
}

func (e *Events) object(ev Event) *corev1.Event {
	text, _ := said(ev)
	now := metav1.Now()
	return &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: eventnames.GenerateEventName(ev.Pod, now.UnixNano()), Namespace: ev.Namespace},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: "v1", Kind: "Pod", Namespace: ev.Namespace, Name: ev.Pod, UID: types.UID(ev.PodUID),
		},
		Reason: text.reason, Message: text.message, Type: text.severity,
		Source:         corev1.EventSource{Component: text.component, Host: e.c.Node},
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
		ReportingController: text.component, ReportingInstance: e.c.Node,
	}
}

// errMuted is why an event of a namespace is not offered.
var errMuted = errors.New("an event of this namespace was not answered a short while ago")

// mute leaves a namespace alone for a while.
func (e *Events) mute(namespace string) {
	now := time.Now()
	maps.DeleteFunc(e.muted, func(_ string, until time.Time) bool { return !now.Before(until) })
	e.muted[namespace] = now.Add(muteFor)
}

// deliver writes an event, or counts it in the one that says the same.
func (e *Events) deliver(ctx context.Context, o *corev1.Event) error {
	if time.Now().Before(e.muted[o.Namespace]) {
		return errMuted
	}
	result, err := e.correlator.EventCorrelate(o)
	if err != nil || result.Skip {
		return err
	}
	pause := e.c.RetryAfter
	for try := 1; ; try++ {
		written, err := e.write(ctx, result)
		if err == nil {
			e.correlator.UpdateState(written)
			return nil
		}
		if errors.Is(err, context.DeadlineExceeded) {
			e.mute(o.Namespace)
			return err
		}
		if try == eventTries || !passing(troubleOf(err)) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(max(pause, min(delayAsked(err), longestRetry))):
			pause *= 4
		}
	}
}

// passing reports whether an event is worth another try.
func passing(t trouble) bool {
	return t == troubleUnreachable || t == troubleServer || t == troubleThrottled
}

func (e *Events) write(ctx context.Context, r *record.EventCorrelateResult) (*corev1.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, e.limit)
	defer cancel()
	o := r.Event
	if o.Count > 1 {
		written, err := e.send(ctx, e.client.rest.Patch(types.StrategicMergePatchType).Namespace(o.Namespace).Resource(resourceEvents).Name(o.Name).Body(r.Patch))
		if !apierrors.IsNotFound(err) {
			return written, err
		}
		// Events live an hour. The next of its kind is a new one.
		o = o.DeepCopy()
		o.Name, o.ResourceVersion = eventnames.GenerateEventName(o.InvolvedObject.Name, time.Now().UnixNano()), ""
	}
	return e.send(ctx, e.client.rest.Post().Namespace(o.Namespace).Resource(resourceEvents).Body(o))
}

func (e *Events) send(ctx context.Context, r *rest.Request) (*corev1.Event, error) {
	o := &corev1.Event{}
	if err := r.MaxRetries(0).Do(ctx).Into(o); err != nil {
		return nil, err
	}
	return o, nil
}
