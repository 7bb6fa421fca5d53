package bundle_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature/signaturetest"
	"github.com/portcullis-csi/portcullis/policies/bundle/store"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// registry is a Fetcher whose artifact tests exchange.
type registry struct {
	mu       sync.Mutex
	artifact *signature.Artifact
	version  int
	fetches  int
	hang     bool
	// onResolve is called when somebody asks, without the lock. It may be nil.
	onResolve func()
}

var errDown = errors.New("connection refused")

func (r *registry) put(a signature.Artifact) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.artifact, r.version = &a, r.version+1
}

func (r *registry) down() { r.mu.Lock(); r.artifact = nil; r.mu.Unlock() }

func (r *registry) Resolve(ctx context.Context) (string, error) {
	if r.onResolve != nil {
		r.onResolve()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hang {
		r.mu.Unlock()
		<-ctx.Done()
		r.mu.Lock()
		return "", ctx.Err()
	}
	if r.artifact == nil {
		return "", errDown
	}
	return fmt.Sprint("v", r.version), nil
}

func (r *registry) Fetch(context.Context, string) (signature.Artifact, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fetches++
	if r.artifact == nil {
		return signature.Artifact{}, errDown
	}
	return *r.artifact, nil
}

// clusterFloor is a Floor that tests set.
type clusterFloor struct {
	mark store.Mark
	err  error
}

func (f *clusterFloor) Read(context.Context) (store.Mark, error) { return f.mark, f.err }

// rig is a node with a registry; start is a start of its process.
type rig struct {
	t         testing.TB
	dir       string
	signer    signaturetest.Signer
	emergency signaturetest.Signer
	registry  *registry
	fetcher   bundle.Fetcher // in place of registry; may be nil
	fallback  bundle.Fetcher
	floor     bundle.Floor
	raise     func(context.Context, store.Mark) error
	minSerial int64
	step      func(string) error
	after     func(time.Duration, func()) (stop func() bool)
	compile   func(context.Context, policies.Bundle, policies.Options) (*policies.Engine, error)
	patience  time.Duration
	mu        sync.Mutex
	offset    time.Duration // of the clock
	passed    time.Duration
	reports   []bundle.Report
	source    *bundle.Source
	store     *store.Store
}

func newRig(t testing.TB) *rig {
	t.Helper()
	return &rig{t: t, dir: t.TempDir(), signer: signaturetest.NewSigner(t), emergency: signaturetest.NewSigner(t), registry: &registry{}}
}

func (r *rig) now() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return now().Add(r.passed + r.offset)
}

// pass lets time pass; set moves the clock alone.
func (r *rig) pass(d time.Duration) { r.mu.Lock(); r.passed += d; r.mu.Unlock() }
func (r *rig) set(d time.Duration)  { r.mu.Lock(); r.offset = d; r.mu.Unlock() }

func (r *rig) start() error { r.t.Helper(); return r.startIn(r.t.Context()) }

func (r *rig) startIn(ctx context.Context) error {
	r.t.Helper()
	if r.store != nil {
		if err := r.store.Close(); err != nil {
			r.t.Fatal(err)
		}
	}
	var err error
	if r.store, err = store.Open(store.Config{Dir: r.dir, Step: r.step}); err != nil {
		r.t.Fatal(err)
	}
	begin, fetcher := r.passed, r.fetcher
	if fetcher == nil {
		fetcher = r.registry
	}
	r.source, err = bundle.NewSource(bundle.Config{
		Compile: policies.Options{Clock: r.now, Budget: 30 * time.Second},
		Report:  func(p bundle.Report) { r.mu.Lock(); r.reports = append(r.reports, p); r.mu.Unlock() },
		Signed: &bundle.Signed{
			Fetcher: fetcher, Vouch: bundle.By(signaturetest.Trust(r.t, 1, r.signer)), BreakGlass: bundle.By(signaturetest.Trust(r.t, 1, r.emergency)),
			Store: r.store, Fallback: r.fallback, Floor: r.floor, Raise: r.raise, MinSerial: r.minSerial, After: r.after,
			Compile: r.compile, Patience: r.patience, Background: func(f func()) { go f() },
			Monotonic: func() time.Duration { r.mu.Lock(); defer r.mu.Unlock(); return r.passed - begin },
		},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return r.source.Start(ctx)
}

func (r *rig) reload() error { return r.source.Reload(r.t.Context()) }

// tarball is a bundle with a serial and an end so long from now; odd ones deny.
func (r *rig) tarball(serial int64, life time.Duration, allow bool) []byte {
	r.t.Helper()
	grants := ""
	if allow {
		grants = policiestest.Grants
	}
	m := fmt.Sprintf(`{"metadata":{"contract":"portcullis/v1","serial":%d,"not_after":%q}}`, serial, now().Add(r.passed+life).UTC().Format(time.RFC3339))
	b, err := bundle.LoadFS(policiestest.Files(grants, policiestest.WithFile(".manifest", m), policiestest.WithCheck("odd", check)))
	if err != nil {
		r.t.Fatal(err)
	}
	var text bytes.Buffer
	if err := bundle.WriteTarball(&text, b); err != nil {
		r.t.Fatal(err)
	}
	return text.Bytes()
}

const day = 24 * time.Hour

func (r *rig) signed(serial int64, allow bool) signature.Artifact {
	return signaturetest.Forms()[0].Signed(r.t, r.tarball(serial, 30*day, allow), r.signer)
}

func (r *rig) breakGlass(serial int64, life time.Duration) signature.Artifact {
	return signaturetest.Forms()[0].Signed(r.t, r.tarball(serial, life, true), r.emergency)
}

// serial is that of the bundle that decides, 0 if none does.
func (r *rig) serial() int64 {
	d := r.source.Active().Decide(r.t.Context(), policiestest.Input(func(in *policies.Input) { in.NowNS = r.now().UnixNano() }))
	if d.Verdict() == policies.VerdictError {
		return 0
	}
	return d.BundleSerial
}

func (r *rig) last() bundle.Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.reports) == 0 {
		return bundle.Report{}
	}
	return r.reports[len(r.reports)-1]
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) want(serial int64, when string) {
	r.t.Helper()
	if got := r.serial(); got != serial {
		r.t.Errorf("%s serial %d decides, want %d (last attempt: %v)", when, got, serial, r.source.Failure())
	}
}
