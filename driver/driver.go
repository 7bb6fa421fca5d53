package driver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"go.opentelemetry.io/otel/metric"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/driver/identity"
	"github.com/portcullis-csi/portcullis/driver/provider"
	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/policies"
)

// Verifier confirms who asks.
type Verifier interface {
	Verify(ctx context.Context, c identity.Claim) (identity.Confirmed, error)
}

// Classes reads SecretProviderClass objects. A missing class is an error that
// is kube.ErrNotFound.
type Classes interface {
	Class(ctx context.Context, namespace, name string) (*spcv1.SecretProviderClass, error)
}

// PolicySource gives the active policy; without one it is nil, whose every
// decision is an error.
type PolicySource interface {
	Active() *policies.Engine
}

// Recorder takes audit events.
type Recorder interface {
	// Record returns nil only once the event is durable. An intent like one that
	// failed a short while ago may be held until Confirm.
	Record(ctx context.Context, e audit.Event) error
	// Confirm returns nil only if the intent with this id is durable.
	Confirm(ctx context.Context, id string) error
	// Owe appends the event when that is possible, and retries until it is.
	Owe(e audit.Event)
}

// Deliverer fetches what was granted and writes it into a volume. No secret
// byte comes back.
type Deliverer interface {
	Deliver(ctx context.Context, c provider.Call) (provider.Delivered, error)
}

// Rotation says when mounted secrets are fetched again.
type Rotation struct {
	Enabled  bool
	Interval time.Duration // time between successful fetches
}

// Config of a Driver. Every field is required but where it says otherwise.
type Config struct {
	DriverName     string // CSI driver name, as in the CSIDriver object
	Version        string // of this build
	Node           string // name of this node, as in the API server
	Cluster        string // name of this cluster, in input and events
	KubeletRoot    string // kubelet's root directory, as kubelet writes it into target paths
	Volumes        *hardening.System
	Verifier       Verifier
	Classes        Classes
	Pods           Pods
	Policy         PolicySource
	Recorder       Recorder
	Deliverer      Deliverer
	Records        *Records
	Meter          metric.Meter // of the scope MeterScope
	Logger         *slog.Logger
	Clock          func() time.Time // absent: time.Now
	Rotation       Rotation
	MaxVolumeBytes int64       // content of one volume
	MaxNodeBytes   int64       // tmpfs of all volumes of the node
	Statuses       PodStatuses // absent: no status objects are written
	Events         PodEvents   // absent: pods are told nothing beyond kubelet's events
	// Decided is called after each decision, with it, and must not block; absent:
	// nobody is.
	Decided func(policies.Decision)
	// Providers is what health checks of providers found, by name; absent where
	// none are made.
	Providers func() map[string]provider.Status
}

// Driver is the CSI plugin of one node.
type Driver struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedNodeServer

	c       Config
	locks   *targetLocks
	budget  *budget
	metrics *metrics
	// legacy are the volumes that the upstream driver mounted before this one
	// took its place. They are never written: their pods keep them until they
	// restart.
	legacy     targetSet
	refreshing targetSet // whose refresh has not ended
	registered atomic.Bool
	unlocked   atomic.Pointer[error] // why pages of mounted volumes may be unlocked
	brake      brake
	orphans    orphans
	unverified unverified
	requests   requests
	pending    *pending
}

// New returns a Driver, or an error that names the missing field.
func New(c Config) (*Driver, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Decided == nil {
		c.Decided = func(policies.Decision) {}
	}
	if c.Providers == nil {
		c.Providers = func() map[string]provider.Status { return nil }
	}
	d := &Driver{c: c, locks: newTargetLocks(), budget: newBudget(c.MaxNodeBytes, c.largestVolume()), pending: newPending()}
	var err error
	if d.metrics, err = newMetrics(c.Meter, d.gauges()); err != nil {
		return nil, err
	}
	return d, nil
}

func (d *Driver) gauges() gauges {
	return gauges{
		inUse: d.budget.inUse, legacy: d.legacy.count, held: d.held, orphans: d.orphans.count,
		pending: d.statusesPending, dropped: d.eventsDropped, undecided: d.pending.count, providers: d.c.Providers,
	}
}

func (c Config) check() error {
	required := []struct {
		name    string
		present bool
	}{
		{"DriverName", c.DriverName != ""}, {"Version", c.Version != ""}, {"Node", c.Node != ""},
		{"Cluster", c.Cluster != ""}, {"KubeletRoot", c.KubeletRoot != ""}, {"Volumes", c.Volumes != nil},
		{"Verifier", c.Verifier != nil}, {"Classes", c.Classes != nil}, {"Pods", c.Pods != nil}, {"Policy", c.Policy != nil},
		{"Recorder", c.Recorder != nil}, {"Deliverer", c.Deliverer != nil}, {"Records", c.Records != nil},
		{"Meter", c.Meter != nil}, {"Logger", c.Logger != nil},
		{"MaxVolumeBytes", c.MaxVolumeBytes > 0}, {"MaxNodeBytes", c.MaxNodeBytes > 0},
	}
	for _, f := range required {
		if !f.present {
			return fmt.Errorf("configure driver: %s is missing", f.name)
		}
	}
	if !policies.ValidDriverName(c.DriverName) || !policies.ValidClusterName(c.Cluster) {
		return fmt.Errorf("configure driver: DriverName %q or Cluster %q is no name", c.DriverName, c.Cluster)
	}
	if c.Rotation.Enabled && c.Rotation.Interval <= 0 {
		return errors.New("configure driver: Rotation.Interval is missing")
	}
	if err := (hardening.Limits{Bytes: c.MaxVolumeBytes}).Validate(); err != nil {
		return fmt.Errorf("configure driver: %w", err)
	}
	if most := c.largestVolume(); most > c.MaxNodeBytes/namespaceShare {
		return fmt.Errorf("configure driver: a volume of MaxVolumeBytes fills %d bytes, a namespace has %d", most, c.MaxNodeBytes/namespaceShare)
	}
	return nil
}

// Unlocked returns why, since the start, pages of volumes that were mounted
// before may not be locked; nil if all are, or need not be.
func (d *Driver) Unlocked() error {
	if err := d.unlocked.Load(); err != nil {
		return *err
	}
	return nil
}

// Registered reports whether kubelet has asked for this node's name, which it
// does when it registers the plugin.
func (d *Driver) Registered() bool { return d.registered.Load() }
