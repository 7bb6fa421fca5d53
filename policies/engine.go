package policies

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Engine decides by one bundle. It is immutable and safe for concurrent use.
// The nil Engine is one without a bundle: it decides nothing.
type Engine struct {
	store      storage.Store // parsed data, which the query reads
	query      rego.PreparedEvalQuery
	manifest   Manifest
	digest     string
	library    string
	signed     bool
	massRevoke bool
	breakGlass bool
	ended      bool
	// monitorEndNS is when monitor mode ends; zero: there is none.
	monitorEndNS int64
	budget       time.Duration
	options      []rego.EvalOption
}

// Digest returns the digest of the bundle, "" for the nil Engine.
func (e *Engine) Digest() string {
	if e == nil {
		return ""
	}
	return e.digest
}

// LibraryDigest returns the digest of the embedded library, "" for the nil Engine.
func (e *Engine) LibraryDigest() string {
	if e == nil {
		return ""
	}
	return e.library
}

// Manifest returns what the author states about the bundle.
func (e *Engine) Manifest() Manifest {
	if e == nil {
		return Manifest{}
	}
	return e.manifest
}

// Signed reports whether a signature vouches for the bundle.
func (e *Engine) Signed() bool { return e != nil && e.signed }

// BreakGlass reports whether the bundle is one for emergencies.
func (e *Engine) BreakGlass() bool { return e != nil && e.breakGlass }

// Ended returns the engine as it is after its bundle's end: it decides nothing,
// whatever time an input states. A clock that was set back does not revive it.
func (e *Engine) Ended() *Engine {
	if e == nil {
		return nil
	}
	over := *e
	over.ended = true
	return &over
}

// MassRevoke reports whether the bundle permits revoking most of a node's
// volumes at once. One for emergencies never does: it is there to let pods run,
// and a stolen key of it shall not empty a cluster.
func (e *Engine) MassRevoke() bool { return e != nil && e.massRevoke }

// Decide answers whether the pod may have what it asks for. It never fails: what
// keeps it from a verdict is the decision's Undecided and Cause.
func (e *Engine) Decide(ctx context.Context, in Input) Decision {
	d := Decision{
		LibraryDigest: e.LibraryDigest(), BundleDigest: e.Digest(), BundleSerial: e.Manifest().Serial,
		BundleSigned: e.Signed(), BreakGlass: e.BreakGlass(), Mode: ModeEnforce, input: in.clone(),
	}
	text, err := in.encode()
	sum := sha256.Sum256(text)
	d.InputSHA256 = hex.EncodeToString(sum[:])
	if err != nil {
		return d.undecided(UndecidedInput, err)
	}
	if e == nil {
		return d.undecided(UndecidedNoBundle, errors.New("no policy bundle is active"))
	}
	if end := e.manifest.NotAfter; e.ended || !end.IsZero() && in.NowNS >= end.UnixNano() {
		return d.undecided(UndecidedBundleExpired, fmt.Errorf("policy bundle ended at %s", end.UTC().Format(time.RFC3339)))
	}
	value, err := parseInput(text, in.NowNS)
	if err != nil {
		return d.undecided(UndecidedEngine, err)
	}
	raw, reason, err := e.evaluate(ctx, value)
	if err != nil {
		return d.undecided(reason, err)
	}
	if err := d.adopt(raw); err != nil {
		return d.undecided(UndecidedBadDecision, err)
	}
	d.ID = d.identify()
	return d
}

// evaluate asks the prepared query. A first evaluation may pay for a cold or
// busy machine, which is no reason to refuse a pod, so it is tried twice.
func (e *Engine) evaluate(ctx context.Context, input ast.Value) (any, UndecidedReason, error) {
	raw, err := e.evaluateOnce(ctx, input)
	if isTimeout(err) && ctx.Err() == nil {
		raw, err = e.evaluateOnce(ctx, input)
	}
	switch {
	case isTimeout(err):
		return nil, UndecidedTimeout, fmt.Errorf("evaluate policy within %s: %w", e.budget, err)
	case err != nil:
		return nil, UndecidedEngine, fmt.Errorf("evaluate policy: %w", err)
	}
	return raw, "", nil
}

func (e *Engine) evaluateOnce(ctx context.Context, input ast.Value) (value any, err error) {
	// A panic of the interpreter would end the daemon, with it every gate of
	// the node, and again at each retry of the pod that caused it.
	defer func() {
		if r := recover(); r != nil {
			value, err = nil, fmt.Errorf("interpreter panicked: %v", r)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, e.budget)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	options := append([]rego.EvalOption{rego.EvalParsedInput(input), rego.EvalSortSets(true), rego.EvalExternalCancel(ended{ctx})}, e.options...)
	results, err := e.query.Eval(ctx, options...)
	if err != nil {
		return nil, err
	}
	if len(results) != 1 || len(results[0].Expressions) != 1 {
		return nil, errors.New("the entrypoint is undefined")
	}
	return results[0].Expressions[0].Value, nil
}

// ended ends an evaluation with its context. By itself OPA has a goroutine wait for
// that, which takes the lock of the context when it comes to run: on a busy machine a
// decision that is made would wait for it.
type ended struct{ ctx context.Context }

// Cancel does nothing: the context ends by itself.
func (ended) Cancel() {}

// Cancelled is asked at each step.
func (e ended) Cancelled() bool { return e.ctx.Err() != nil }

func isTimeout(err error) bool {
	return topdown.IsCancel(err) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// parseInput makes the document that policy reads from the text that the digest
// is made of, so that the two cannot differ in anything but the time.
func parseInput(text []byte, nowNS int64) (ast.Value, error) {
	value, err := ast.ValueFromReader(io.Reader(bytes.NewReader(text)))
	if err != nil {
		return nil, fmt.Errorf("read input: %w", err)
	}
	object, ok := value.(ast.Object)
	if !ok {
		return nil, errors.New("read input: not an object")
	}
	object.Insert(ast.StringTerm("now_ns"), ast.NewTerm(ast.Number(fmt.Sprint(nowNS))))
	return object, nil
}

func (d Decision) undecided(reason UndecidedReason, cause error) Decision {
	d.verdict, d.Undecided, d.cause = VerdictError, reason, cause
	d.ID = d.identify()
	return d
}

// identify hashes what a decision stands for, each part behind its length. Time
// is not part of it: equal retries must have equal texts, since kubelet
// deduplicates events by text.
func (d Decision) identify() string {
	ids := slices.Concat(RuleIDs(d.Deny), RuleIDs(d.Warn))
	slices.Sort(ids)
	h := sha256.New()
	for _, part := range []string{
		d.LibraryDigest, d.BundleDigest, d.InputSHA256, d.verdict.String(), string(d.Undecided),
		strings.Join(slices.Compact(ids), ","),
	} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return base32.StdEncoding.EncodeToString(h.Sum(nil))[:26]
}
