package admission

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"go.opentelemetry.io/otel/metric"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	webhook "sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/policies"
)

const (
	// MeterScope is the instrumentation scope of the webhook's metrics.
	MeterScope = "portcullis.dev/admission"

	// DefaultTimeout is how long a review may take. The API server is registered
	// to wait for three seconds: an answer of ours says more than none.
	DefaultTimeout = 2500 * time.Millisecond
	maxTimeout     = 25 * time.Second // the API server waits for 30 s at most
)

// PolicySource gives the active policy; without one it is nil, whose every
// decision is an error.
type PolicySource interface {
	Active() *policies.Engine
}

// Facts are the objects that pods refer to. An error that is kube.ErrNotFound
// says that the API server knows of none; every other that nobody can say.
type Facts interface {
	Namespace(ctx context.Context, name string) (*corev1.Namespace, error)
	ServiceAccount(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error)
	Class(ctx context.Context, namespace, name string) (*spcv1.SecretProviderClass, error)
}

// Recorder takes audit events.
type Recorder interface {
	// Record returns nil only once the event is durable.
	Record(ctx context.Context, e audit.Event) error
	// Owe appends the event when that is possible, and retries until it is.
	Owe(e audit.Event)
}

// Config of the handlers. Every field is required but where it says otherwise.
type Config struct {
	DriverName string // CSI driver name of our volumes
	Cluster    string // name of this cluster, in input and events
	Policy     PolicySource
	Facts      Facts
	Recorder   Recorder
	Meter      metric.Meter // of the scope MeterScope
	Logger     *slog.Logger
	Clock      func() time.Time // absent: time.Now
	Timeout    time.Duration    // of one review; absent: DefaultTimeout
	// KnownProviders are those that classes may name without a warning; absent:
	// every one.
	KnownProviders []string
	// Decided is called after each decision about a pod that was recorded; absent:
	// nobody is told. It must not block.
	Decided func(policies.Decision)
}

// Handlers are what the webhook serves.
type Handlers struct {
	Pods      webhook.Handler // CREATE and UPDATE of pods, UPDATE of pods/ephemeralcontainers
	Templates webhook.Handler // CREATE and UPDATE of what makes pods: warnings only
	Classes   webhook.Handler // CREATE and UPDATE of SecretProviderClasses
}

// gate is what the handlers share.
type gate struct {
	c       Config
	decoder runtime.Decoder
	metrics *metrics
}

// New returns the handlers, or an error that names the field that is missing or
// wrong.
func New(c Config) (Handlers, error) {
	if err := c.check(); err != nil {
		return Handlers{}, err
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	c.KnownProviders = slices.Clone(c.KnownProviders)
	m, err := newMetrics(c.Meter)
	if err != nil {
		return Handlers{}, err
	}
	g := &gate{c: c, decoder: newDecoder(), metrics: m}
	return Handlers{
		Pods:      g.handler(g.reviewPod, podRequests()),
		Templates: g.handler(g.reviewTemplate, templateRequests()),
		Classes:   g.handler(g.reviewClass, classRequests()),
	}, nil
}

func (c Config) check() error {
	switch {
	case !policies.ValidDriverName(c.DriverName):
		return errors.New("configure admission: DriverName is missing or not the name of a CSI driver")
	case !policies.ValidClusterName(c.Cluster):
		return errors.New("configure admission: Cluster is missing or not a name")
	case c.Policy == nil:
		return errors.New("configure admission: Policy is missing")
	case c.Facts == nil:
		return errors.New("configure admission: Facts is missing")
	case c.Recorder == nil:
		return errors.New("configure admission: Recorder is missing")
	case c.Meter == nil:
		return errors.New("configure admission: Meter is missing")
	case c.Logger == nil:
		return errors.New("configure admission: Logger is missing")
	case c.Timeout < 0 || c.Timeout > maxTimeout:
		return errors.New("configure admission: Timeout is not between 0 and 25 s")
	}
	return nil
}
