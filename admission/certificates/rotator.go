package certificates

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"
)

const (
	firstRetry = time.Second
	// conflicts is how often a race is lost before the replica waits.
	conflicts = 5
	// clockTolerance is how far apart clocks may be before somebody is told.
	clockTolerance = time.Minute
)

// Config of a Rotator. Every field is required but where it says otherwise.
type Config struct {
	REST          *rest.Config // is copied
	Namespace     string       // of Service and Secret
	Secret        string       // that all replicas share, and that the chart made
	Service       string       // that API servers call
	Configuration string       // name of the ValidatingWebhookConfiguration
	Logger        *slog.Logger
	Lifetimes     Lifetimes // absent: those of a release
}

// Rotator keeps the serving certificate, and what API servers trust. Its methods
// may be called at the same time, before, during and after Run.
type Rotator struct {
	c       Config
	client  *client
	names   []string
	serving atomic.Pointer[tls.Certificate]
	failure atomic.Pointer[error]

	// Of Run's goroutine alone.
	memory  *state
	trusted map[string]time.Time // when an authority was first seen in the caBundle, by its bytes
	skewed  bool
	written []byte // the caBundle that was last seen to be as it should
}

// New returns a Rotator, or an error that names the field. It asks nobody.
func New(c Config) (*Rotator, error) {
	if c.REST == nil || c.Logger == nil {
		return nil, errors.New("configure certificates: REST or Logger is missing")
	}
	for _, f := range []struct{ name, value string }{
		{"Namespace", c.Namespace}, {"Secret", c.Secret}, {"Service", c.Service}, {"Configuration", c.Configuration},
	} {
		if problems := validation.IsDNS1123Subdomain(f.value); len(problems) > 0 {
			return nil, fmt.Errorf("configure certificates: %s %q: %s", f.name, f.value, problems[0])
		}
	}
	made, err := newClient(c.REST)
	if err != nil {
		return nil, fmt.Errorf("configure certificates: %w", err)
	}
	c.Lifetimes = c.Lifetimes.complete()
	r := &Rotator{c: c, client: made, names: Names(c.Service, c.Namespace), trusted: map[string]time.Time{}}
	r.fail(errNotYet)
	return r, nil
}

// Names are those by which API servers and people call a Service.
func Names(service, namespace string) []string {
	name := service + "." + namespace + ".svc"
	return []string{name, name + ".cluster.local"}
}

var (
	errNotYet    = errors.New("the serving certificate was not read yet; hint: wait, and see the log if it takes more than seconds")
	errUncertain = errors.New("the clocks of this node and of the API server are more than an hour apart, and which one is right shows in two minutes; hint: set the clock")
	errNothing   = errors.New("there is no serving certificate")
)

// GetCertificate is of tls.Config.
func (r *Rotator) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c := r.serving.Load(); c != nil {
		return c, nil
	}
	return nil, errNothing
}

// Failure returns why the last look did not come to its end. What is served may be
// trusted all the same: that is what Served says.
func (r *Rotator) Failure() error {
	if err := r.failure.Load(); err != nil {
		return *err
	}
	return nil
}

func (r *Rotator) fail(err error) {
	if err == nil {
		r.failure.Store(nil)
		return
	}
	r.failure.Store(&err)
}

// Run looks and does what is due until ctx ends.
func (r *Rotator) Run(ctx context.Context) {
	retry := firstRetry
	for {
		soon, err := r.settle(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil && (r.Failure() == nil || r.Failure().Error() != err.Error()) {
			r.c.Logger.Error("certificates not looked after", slog.Any(keyError, err))
		}
		r.fail(err)
		wait := r.c.Lifetimes.Look - time.Duration(rand.Int64N(int64(r.c.Lifetimes.Look)/5+1)) //nolint:gosec // spreads replicas, and keeps no secret
		switch {
		case err != nil:
			wait = min(retry, r.c.Lifetimes.Look)
			retry *= 2
		case soon:
			wait, retry = min(wait, r.c.Lifetimes.Spread), firstRetry
		default:
			retry = firstRetry
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// settle looks until there is no step left, and reports whether to look again soon.
func (r *Rotator) settle(ctx context.Context) (soon bool, err error) {
	for lost := 0; ; {
		changed, soon, err := r.pass(ctx)
		switch {
		case apierrors.IsConflict(err) && lost < conflicts: // another replica was faster
			lost++
		case err != nil || !changed:
			return soon, err
		}
	}
}

// pass does one step. It reports whether there may be another one, and whether
// something will be due as soon as all API servers have seen the caBundle.
func (r *Rotator) pass(ctx context.Context) (changed, soon bool, err error) {
	// First the configuration: whoever wrote it had written the Secret before, so
	// that the Secret is never older than what is compared with it.
	configuration, ours, untold := readHooks(ctx, r.client, r.c.Configuration, r.service())
	secret, missing, err := r.readSecret(ctx)
	if err != nil {
		return false, false, errors.Join(err, untold)
	}
	now, certain := r.client.clock.now(time.Now())
	if !certain && r.memory == nil {
		return false, false, errUncertain
	}
	r.compareClocks(now)
	l := look{now: now, names: r.names, lives: r.c.Lifetimes, live: common(ours)}
	s, done, err := r.step(l, secret, union(ours))
	if err != nil {
		return false, false, err
	}
	if done != stepNone && secret != nil {
		if err := r.write(ctx, secret, s, done); err != nil {
			return false, false, err
		}
	}
	r.memory = s
	if untold == nil {
		changed, err = r.trust(ctx, configuration.ResourceVersion, ours)
	}
	soon = r.adopt(l, ours)
	return changed || done != stepNone && secret != nil, soon, errors.Join(err, untold, missing)
}

func (r *Rotator) service() types.NamespacedName {
	return types.NamespacedName{Namespace: r.c.Namespace, Name: r.c.Service}
}

// readSecret returns the Secret. One that is not there is nil and missing says what
// to do, if there is a memory to go on with; else it is an error.
func (r *Rotator) readSecret(ctx context.Context) (secret *corev1.Secret, missing, err error) {
	secret, err = r.client.secret(ctx, types.NamespacedName{Namespace: r.c.Namespace, Name: r.c.Secret})
	switch {
	case apierrors.IsNotFound(err):
		missing = fmt.Errorf("the Secret %s/%s is not in the cluster, and this account may not make it; hint: install the chart again, or run kubectl -n %s create secret generic %s", r.c.Namespace, r.c.Secret, r.c.Namespace, r.c.Secret)
		if r.memory == nil {
			return nil, nil, missing
		}
		return nil, missing, nil
	case err != nil:
		return nil, nil, fmt.Errorf("read Secret %s/%s: %w", r.c.Namespace, r.c.Secret, err)
	}
	return secret, nil, nil
}

// step returns the state to be in, and what is done to come there.
func (r *Rotator) step(l look, secret *corev1.Secret, everything []*x509.Certificate) (*state, step, error) {
	if secret == nil { // each replica for itself, by the authority that all remember
		if r.memory.serving != nil && r.memory.serving.valid(l.now) && !l.due(r.memory.serving, l.lives.Serving/2) {
			return r.memory, stepNone, nil
		}
		serving, err := r.memory.ca.issue(l.now, l.lives.Serving, l.names)
		if err != nil {
			return nil, stepNone, err
		}
		s := *r.memory
		s.serving = serving
		return &s, stepServing, nil
	}
	s, err := parseState(secret.Data, r.names)
	if err == nil {
		return l.advance(s)
	}
	if r.memory != nil && r.memory.ca.valid(l.now) {
		r.c.Logger.Warn("the Secret is written again from memory", slog.String(keySecret, r.c.Secret), slog.Any(keyError, err))
		return r.memory, stepRestore, nil
	}
	if !errors.Is(err, errEmpty) {
		r.c.Logger.Warn("the Secret is of no use and begins anew", slog.String(keySecret, r.c.Secret), slog.Any(keyError, err))
	}
	l.live = everything
	s, err = l.begin()
	return s, stepNew, err
}

// write writes the Secret that was read.
func (r *Rotator) write(ctx context.Context, secret *corev1.Secret, s *state, done step) error {
	data, err := s.render(secret.Data)
	if err != nil {
		return err
	}
	secret.Data = data
	if _, err := r.client.update(ctx, secret); err != nil {
		return fmt.Errorf("write Secret %s/%s: %w", r.c.Namespace, r.c.Secret, err)
	}
	r.c.Logger.Info("certificates changed", slog.String(keyStep, string(done)), slog.Time(keyExpires, s.serving.cert.NotAfter))
	return nil
}

// trust has every webhook of ours trust what the state says, and nothing else.
func (r *Rotator) trust(ctx context.Context, version string, ours []hook) (changed bool, err error) {
	bundle := encodeCertificates(r.memory.trusted()...)
	patch, names := newBundlePatch(version, ours, bundle)
	if len(names) == 0 {
		r.written = bundle
		return false, nil
	}
	if err := r.client.patch(ctx, r.c.Configuration, patch); err != nil {
		return false, fmt.Errorf("write caBundle of ValidatingWebhookConfiguration %q: %w", r.c.Configuration, err)
	}
	if bytes.Equal(bundle, r.written) {
		r.c.Logger.Warn("caBundle was changed by somebody else and is written again; hint: look for cert-manager.io/inject-ca-from at the configuration, or who else writes it", slog.String(keyConfiguration, r.c.Configuration), slog.Any(keyWebhook, names))
	} else {
		r.c.Logger.Info("caBundle written", slog.String(keyConfiguration, r.c.Configuration), slog.Any(keyWebhook, names))
	}
	return true, nil
}

// adopt serves what the state says once every API server trusts it, or at once
// where what is served is worth nothing. It reports whether to look again soon.
func (r *Rotator) adopt(l look, ours []hook) (soon bool) {
	now := time.Now()
	seen := map[string]time.Time{}
	for _, c := range common(ours) {
		key := string(c.Raw)
		if seen[key] = r.trusted[key]; seen[key].IsZero() {
			seen[key] = now
		}
	}
	r.trusted = seen
	serving := r.memory.serving
	if serving == nil {
		return false
	}
	current := r.serving.Load()
	switch since := seen[string(r.memory.ca.cert.Raw)]; {
	case current != nil && current.Leaf.Equal(serving.cert):
		return false
	case current == nil, !l.now.Before(current.Leaf.NotAfter), current.Leaf.CheckSignatureFrom(r.memory.ca.cert) == nil,
		!since.IsZero() && now.Sub(since) >= r.c.Lifetimes.Spread:
		r.serving.Store(serving.tls())
		r.c.Logger.Info("serving certificate in use", slog.Time(keyExpires, serving.cert.NotAfter))
		return false
	}
	return true
}

// compareClocks tells once when this node's clock is not the API server's.
func (r *Rotator) compareClocks(now time.Time) {
	ahead := time.Until(now)
	skewed := ahead.Abs() > clockTolerance
	if skewed && !r.skewed {
		r.c.Logger.Warn("the clock of this node is not that of the API server, which counts for certificates", slog.Duration(keyBehind, ahead))
	}
	r.skewed = skewed
}
