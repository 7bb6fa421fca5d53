package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"k8s.io/client-go/rest"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/bundle/registry"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
	"github.com/portcullis-csi/portcullis/policies/bundle/store"
	"github.com/portcullis-csi/portcullis/policies/kube/floor"
)

// policyDirectory of the state directory holds what is kept of policy.
const policyDirectory = "policy"

// PolicyConfig says what OpenPolicy opens.
type PolicyConfig struct {
	Flags    PolicyFlags
	StateDir string // of StateDirectory
	// AllowUnsigned is set by development builds only; it counts where no key and no
	// identity is given.
	AllowUnsigned bool
	Audit         *Audit
	Logger        *slog.Logger
	Version       string // of the program
	// REST reaches the API server, for --policy-floor. It may be nil: then the floor
	// cannot be read.
	REST *rest.Config
	// RaiseFloor is set by the webhook, which keeps the floor.
	RaiseFloor bool
	// Reported is called after each attempt that changed something or failed, and
	// must not block. It may be nil.
	Reported func(bundle.Report)
}

// Policy is the source of policy of a process.
type Policy struct {
	*bundle.Source

	c        PolicyConfig
	store    *store.Store // nil for unsigned policy
	client   *registry.Client
	previous string // digest in force before; of one report at a time
}

// Trial remembers over which candidates the process has ended; see bundle.Source. A
// process without policy remembers none.
func (p *Policy) Trial(digest string) (end func(), err error) {
	if p == nil {
		return func() {}, nil
	}
	return p.Source.Trial(digest)
}

// OpenPolicy opens the source, and makes the first attempt. Policy that is not good
// is no error: it may be mended while the process runs, until then nothing is
// granted, and unmounting works. Unsigned policy where none is allowed is.
func OpenPolicy(ctx context.Context, c PolicyConfig) (p *Policy, err error) {
	p = &Policy{c: c}
	config := bundle.Config{Report: p.report}
	if c.Flags.signed() {
		config.Signed, err = p.signed()
	} else {
		config.Verifier, config.AllowUnsigned = bundle.Path(c.Flags.Source), c.AllowUnsigned
	}
	if err == nil {
		p.Source, err = bundle.NewSource(config)
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	if err := p.Start(ctx); err != nil {
		if errors.Is(err, bundle.ErrUnsigned) && !c.Flags.signed() {
			return nil, errors.Join(err, p.Close())
		}
		c.Logger.Error("the policy source is not good", slog.Any(keyError, err))
	}
	return p, nil
}

// Close ends Run and what of it is under way, then closes what is kept of policy:
// nothing is recorded or reported after it.
func (p *Policy) Close() error {
	if p.Source != nil {
		p.Source.Close()
	}
	if p.client != nil {
		p.client.Close()
	}
	if p.store != nil {
		return p.store.Close()
	}
	return nil
}

func (p *Policy) signed() (*bundle.Signed, error) {
	regular, emergency, err := p.c.Flags.trusts()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(p.c.StateDir, policyDirectory)
	if err := StateDirectory(dir); err != nil {
		return nil, err
	}
	if p.store, err = store.Open(store.Config{Dir: dir}); err != nil {
		return nil, err
	}
	s := &bundle.Signed{Vouch: bundle.By(regular), Store: p.store, MinSerial: p.c.Flags.MinSerial, After: after, Background: beside}
	if emergency != nil {
		s.BreakGlass = bundle.By(emergency)
	}
	if p.c.Flags.Fallback != "" {
		s.Fallback = bundle.File(p.c.Flags.Fallback)
	}
	if s.Fetcher, p.client, err = p.c.Flags.fetcher(p.c.Flags.Source, p.c.Version); err != nil {
		return nil, err
	}
	return s, p.addFloor(s)
}

func beside(f func()) { go f() }

func after(d time.Duration, f func()) (stop func() bool) { return time.AfterFunc(d, f).Stop }

// fetcher returns where a signed bundle comes from, and the client that it uses if
// that is a registry.
func (o *PolicyFlags) fetcher(source, version string) (bundle.Fetcher, *registry.Client, error) {
	if !registry.Is(source) {
		return bundle.File(source), nil, nil
	}
	reference, err := registry.Parse(source)
	if err != nil {
		return nil, nil, err
	}
	c := registry.Config{CredentialsFile: o.RegistryConfig, SignatureRepository: o.SignatureRepository, PlainHTTP: o.PlainHTTP, UserAgent: "portcullis/" + version}
	if o.RegistryCA != "" {
		if c.CA, err = readFile("--policy-registry-ca", o.RegistryCA); err != nil {
			return nil, nil, err
		}
	}
	client, err := registry.New(c)
	if err != nil {
		return nil, nil, Misuse(err.Error(), "see the flags that begin with --policy-")
	}
	return fetcher{client, reference}, client, nil
}

// fetcher takes bundles from a registry.
type fetcher struct {
	client    *registry.Client
	reference registry.Reference
}

// Resolve is one HEAD.
func (f fetcher) Resolve(ctx context.Context) (string, error) {
	return f.client.Resolve(ctx, f.reference)
}

// Fetch pulls by digest.
func (f fetcher) Fetch(ctx context.Context, version string) (signature.Artifact, error) {
	return f.client.Pull(ctx, f.reference, version)
}

func (p *Policy) addFloor(s *bundle.Signed) error {
	if p.c.Flags.Floor == "" {
		return nil
	}
	namespace, name, err := floor.Parse(p.c.Flags.Floor)
	if err != nil {
		return err
	}
	if p.c.REST == nil {
		s.Floor = clusterFloor{}
		return nil
	}
	f, err := floor.New(floor.Config{REST: p.c.REST, Namespace: namespace, Name: name})
	if err != nil {
		return err
	}
	s.Floor = clusterFloor{f, p.c.RaiseFloor}
	if p.c.RaiseFloor {
		s.Raise = func(ctx context.Context, m store.Mark) error { return f.Raise(ctx, floor.Mark(m)) }
	}
	return nil
}

// clusterFloor reads the cluster's floor.
type clusterFloor struct {
	floor *floor.Floor // nil without an API server
	// first is set for who makes the ConfigMap: to it, a missing one is a beginning.
	first bool
}

// Read asks the API server.
func (c clusterFloor) Read(ctx context.Context) (store.Mark, error) {
	if c.floor == nil {
		return store.Mark{}, errors.New("there is no API server to read it from")
	}
	m, err := c.floor.Read(ctx)
	if c.first && errors.Is(err, floor.ErrMissing) {
		return store.Mark{}, nil
	}
	return store.Mark(m), err
}

// Ready is a condition of readiness: without policy nothing is granted.
func (p *Policy) Ready() error {
	switch st := p.Status(); {
	case st.Digest == "" && st.Failure != nil:
		return withHint(fmt.Errorf("no active policy bundle: %w", st.Failure), "see --policy and the process's log")
	case st.Digest == "":
		return errors.New("no active policy bundle; hint: see --policy and the process's log")
	case st.Ended:
		return fmt.Errorf("policy bundle with serial %d ended at %s; hint: publish a bundle with a later not_after", st.Manifest.Serial, st.Manifest.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// Good is a warning of readiness: policy is not as its source should have it.
func (p *Policy) Good() error {
	st := p.Status()
	switch {
	case st.Failure != nil:
		return fmt.Errorf("%w%s", st.Failure, inForce(st))
	case st.BreakGlass:
		return fmt.Errorf("BREAK-GLASS bundle with serial %d until %s; hint: publish a regular bundle", st.Manifest.Serial, st.Manifest.NotAfter.UTC().Format(time.RFC3339))
	case st.Origin != bundle.OriginSource && st.Digest != "":
		return fmt.Errorf("not from its source%s", inForce(st))
	}
	return nil
}

// inForce says what decides meanwhile.
func inForce(st bundle.Status) string {
	if st.Digest == "" {
		return ""
	}
	text := fmt.Sprintf(" (in force: serial %d, %s, from the %s", st.Manifest.Serial, st.Digest, st.Origin)
	if !st.Since.IsZero() {
		text += ", since " + st.Since.UTC().Format(time.RFC3339)
	}
	return text + ")"
}

// FloorKept is a warning of readiness: an older bundle could come into force.
func (p *Policy) FloorKept() error {
	st := p.Status()
	switch {
	case !p.c.Flags.signed():
		return nil
	case st.Disk != nil:
		return fmt.Errorf("state of policy: %w", st.Disk)
	case st.Cluster != nil:
		return st.Cluster
	case p.c.Flags.Floor == "":
		return errors.New("there is no cluster floor: a node that loses its state accepts older bundles; hint: give --policy-floor")
	}
	return nil
}

// report records what became of a bundle.
func (p *Policy) report(r bundle.Report) {
	if p.c.Reported != nil {
		defer p.c.Reported(r)
	}
	previous := p.previous
	p.previous = r.Active
	b := audit.Bundle{Digest: r.Digest, Previous: previous, Serial: r.Manifest.Serial, Signed: r.Signed, BreakGlass: r.Bundle.BreakGlass}
	if r.Err != nil {
		b.Reason = failureReason(r.Reason)
		p.c.Logger.Error("policy not loaded, the active one stays", slog.String(keyActive, r.Active), slog.String(keyOrigin, string(r.Origin)), slog.Any(keyError, r.Err))
		p.c.Audit.Recorder().Owe(audit.PolicyLoadFailed(b))
		return
	}
	b.Reason = changeReason(r.Change)
	p.c.Logger.Info("policy active", slog.String(keyDigest, r.Digest), slog.Int64(keySerial, r.Manifest.Serial), slog.Bool(keySigned, r.Signed),
		slog.String(keyOrigin, string(r.Origin)), slog.String(keyChange, string(r.Change)))
	if r.Bundle.Data != nil { // else it was in force before
		p.c.Audit.KeepBundle(r.Digest, r.Bundle)
	}
	p.c.Audit.Recorder().Owe(audit.PolicyLoaded(b))
}

func failureReason(r bundle.Reason) audit.Reason {
	switch r {
	case bundle.ReasonUnreadable:
		return audit.ReasonBundleUnreadable
	case bundle.ReasonUnsigned:
		return audit.ReasonBundleUnsigned
	case bundle.ReasonUntrusted:
		return audit.ReasonBundleUntrusted
	case bundle.ReasonSerial:
		return audit.ReasonBundleRollback
	case bundle.ReasonEquivocation:
		return audit.ReasonBundleConflict
	case bundle.ReasonExpired:
		return audit.ReasonBundleExpired
	case bundle.ReasonFloor:
		return audit.ReasonFloorUnreadable
	case bundle.ReasonBreakGlass:
		return audit.ReasonBreakGlassUsed
	case bundle.ReasonInvalid:
	}
	return audit.ReasonBundleInvalid
}

func changeReason(c bundle.Change) audit.Reason {
	switch c {
	case bundle.ChangeFallback:
		return audit.ReasonBundleFallback
	case bundle.ChangeBreakGlass:
		return audit.ReasonBreakGlass
	case bundle.ChangeBreakGlassEnded:
		return audit.ReasonBreakGlassEnded
	case bundle.ChangeRecovered:
		return audit.ReasonBundleRecovered
	case bundle.ChangeNone, bundle.ChangeLoaded:
	}
	return ""
}
