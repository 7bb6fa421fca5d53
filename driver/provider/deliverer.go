package provider

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/portcullis-csi/portcullis/hardening"
)

// MaxTimeout is the longest deadline of a delivery: kubelet gives up on a
// publish after two minutes, and an answer should still reach it.
const MaxTimeout = 110 * time.Second

// What a Config may leave out.
const (
	DefaultReceiveBytes   = 4 << 20 // upstream's --max-call-recv-msg-size
	DefaultConcurrency    = 16
	DefaultConnectTimeout = 20 * time.Second
)

// Keys of log lines.
const (
	keyProvider = "provider"
	keyPath     = "path"
	keyCount    = "count"
	keyError    = "error"
	keyHint     = "hint"
)

// Config of a Deliverer. Dirs and Logger are required.
type Config struct {
	// Dirs are searched in this order for <provider>.sock: those of
	// --additional-provider-volume-paths, then --provider-volume.
	Dirs []string
	// ProviderUIDs may own sockets and listen on them, beside root.
	ProviderUIDs []int
	// MaxReceiveBytes bounds a reply; 0 means DefaultReceiveBytes.
	MaxReceiveBytes int
	// Concurrency bounds the calls in progress per provider; 0 means
	// DefaultConcurrency. Akeyless's provider gets one at a time.
	Concurrency int
	// Timeout bounds a delivery up to the first write; 0 means MaxTimeout.
	Timeout time.Duration
	// ConnectTimeout bounds the wait for a provider that does not accept
	// connections; 0 means DefaultConnectTimeout.
	ConnectTimeout time.Duration
	Logger         *slog.Logger
}

// Deliverer delivers from the providers of one node. It is safe for concurrent
// use.
type Deliverer struct {
	config Config
	owners []int
	codec  codec

	mu        sync.Mutex
	upstreams map[string]*upstream
}

// New returns a Deliverer, or an error that names the field in the way.
func New(c Config) (*Deliverer, error) {
	c.MaxReceiveBytes = orDefault(c.MaxReceiveBytes, DefaultReceiveBytes)
	c.Concurrency = orDefault(c.Concurrency, DefaultConcurrency)
	c.Timeout = orDefault(c.Timeout, MaxTimeout)
	c.ConnectTimeout = orDefault(c.ConnectTimeout, DefaultConnectTimeout)
	switch {
	case len(c.Dirs) == 0 || slices.Contains(c.Dirs, ""):
		return nil, errors.New("configure provider client: Dirs is missing or has an empty entry")
	case c.Logger == nil:
		return nil, errors.New("configure provider client: Logger is missing")
	case c.MaxReceiveBytes < 0 || c.Concurrency < 0 || c.ConnectTimeout < 0:
		return nil, errors.New("configure provider client: MaxReceiveBytes, Concurrency and ConnectTimeout must not be negative")
	case c.Timeout < 0 || c.Timeout > MaxTimeout:
		return nil, fmt.Errorf("configure provider client: Timeout must be at most %v", MaxTimeout)
	}
	return &Deliverer{
		config:    c,
		owners:    append([]int{0}, c.ProviderUIDs...),
		upstreams: map[string]*upstream{},
	}, nil
}

func orDefault[T int | time.Duration](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}

// Deliver fetches what the grant names and writes it into the volume, all of
// it or nothing. Every error is an *Error.
func (d *Deliverer) Deliver(ctx context.Context, c Call) (Delivered, error) {
	if err := check(c); err != nil {
		return Delivered{}, err
	}
	r := &reply{}
	defer r.wipe()
	if err := d.fetch(ctx, c, r); err != nil {
		return Delivered{}, err
	}
	hardening.FaultPoint("provider/replied")
	name := c.Grant.Provider()
	files, delivered, err := accept(c.Grant, r)
	if err == nil {
		err = sameObjects(c.Effective.ObjectIDs(), delivered.Versions)
	}
	if err != nil {
		return Delivered{}, faultError(name, err)
	}
	hardening.FaultPoint("provider/reply-accepted")
	if len(delivered.Clamped) > 0 {
		d.config.Logger.DebugContext(ctx, "file modes of a provider lowered", keyProvider, name, keyCount, len(delivered.Clamped))
	}
	delivered.Changed, err = write(c, files)
	switch {
	case err != nil && delivered.Changed:
		// The pod sees the new content, and that is what must be recorded;
		// something of the old could not be removed.
		d.config.Logger.WarnContext(ctx, "old content of a rotated volume not removed whole", keyProvider, name, keyError, err)
	case err != nil:
		return Delivered{}, writeError(name, err)
	}
	return delivered, nil
}

// check refuses a call that no decision stands behind, before anything of it
// leaves the process.
func check(c Call) error {
	name, ids := c.Grant.Provider(), c.Effective.ObjectIDs()
	switch {
	case len(c.Grant.Requests()) == 0 || c.Volume == nil:
		return &Error{Reason: NotGranted, Provider: name}
	case name != c.Effective.Provider(), !c.Grant.Permits(c.Effective.Digest()):
		return &Error{Reason: ParametersChanged, Provider: name}
	case ids != nil && len(ids) == 0:
		return &Error{BeyondGrant, name, "the list of secrets can change after the decision, and could not be read for certain"}
	}
	return nil
}

// fetch calls the provider; the answer is in r.
func (d *Deliverer) fetch(ctx context.Context, c Call, r *reply) error {
	ctx, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	name := c.Grant.Provider()
	s, err := d.find(ctx, name)
	if err != nil {
		return err
	}
	u := d.upstream(name)
	if err := u.enter(ctx); err != nil {
		return err
	}
	defer u.leave()
	cn, err := u.use(d, s)
	if err != nil {
		return err
	}
	defer u.release(cn)
	if err := d.meet(ctx, cn); err != nil {
		u.drop(cn)
		return err
	}
	req, err := newRequest(c)
	if err != nil {
		return &Error{Reason: NotGranted, Provider: name, detail: "a token or secret of the request is wiped already"}
	}
	defer req.wipe()
	hardening.FaultPoint("provider/connected")
	return d.invoke(ctx, cn, req, r)
}

// meet waits for a provider, and for its word that it speaks our version.
func (d *Deliverer) meet(ctx context.Context, c *conn) error {
	if err := c.ready(ctx, d.config.ConnectTimeout); err != nil {
		return err
	}
	return c.greet(ctx)
}

// invoke is the call itself.
func (d *Deliverer) invoke(ctx context.Context, c *conn, req *request, r *reply) error {
	watched, guard := newGuarded(ctx)
	defer guard.cancel()
	err := c.cc.Invoke(watched, v1alpha1.CSIDriverProvider_Mount_FullMethodName, req, r, grpc.ForceCodecV2(d.codec))
	switch {
	case guard.compressed.Load():
		return &Error{Reason: ReplyInvalid, Provider: c.name, detail: "it is compressed"}
	case err != nil:
		return callError(ctx, c.name, err)
	}
	return nil
}

// faultError gives a fault the form in which it may leave the package.
func faultError(name string, err error) error {
	var f *fault
	if errors.As(err, &f) {
		return &Error{Reason: f.reason, Provider: name, detail: f.detail}
	}
	return &Error{Reason: ReplyInvalid, Provider: name, detail: "not the protocol's message"}
}

// write puts the files into the volume.
func write(c Call, files []hardening.File) (changed bool, err error) {
	if c.Rotate {
		return c.Volume.Replace(files)
	}
	err = c.Volume.Fill(files)
	return err == nil, err
}
