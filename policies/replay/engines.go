package replay

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
)

const (
	// maxEngines bounds the memory: one of ten thousand grants takes some
	// hundred megabytes. Records come in the order of their time, in which
	// bundles change seldom.
	maxEngines = 3
	// budget is for machines that are busy with something else: no pod waits.
	budget = 30 * time.Second
)

// engines are those that were used last.
type engines struct {
	bundles Bundles
	used    []compiled // the last used is the last
}

type compiled struct {
	digest string
	engine *policies.Engine
	err    error
}

// get returns the engine of the bundle that decided.
func (e *engines) get(ctx context.Context, r policies.Recorded) (*policies.Engine, error) {
	at := slices.IndexFunc(e.used, func(c compiled) bool { return c.digest == r.BundleDigest })
	if at >= 0 {
		c := e.used[at]
		e.used = append(slices.Delete(e.used, at, at+1), c)
		return c.engine, c.err
	}
	if len(e.used) >= maxEngines {
		e.used = slices.Delete(e.used, 0, 1)
	}
	c := compiled{digest: r.BundleDigest}
	var b policies.Bundle
	if b, c.err = e.bundle(r.BundleDigest); c.err == nil {
		if c.engine, c.err = compile(ctx, b, r); c.err != nil {
			// The time of this record may be to blame, and not that of the next.
			return nil, c.err
		}
	}
	e.used = append(e.used, c)
	return c.engine, c.err
}

func (e *engines) bundle(digest string) (policies.Bundle, error) {
	b, err := e.bundles(digest)
	if err == nil && b.Digest != digest {
		err = fmt.Errorf("bundle has digest %q, want %q", b.Digest, digest)
	}
	return b, err
}

func compile(ctx context.Context, b policies.Bundle, r policies.Recorded) (*policies.Engine, error) {
	// As it was then: today its ends may be too far off, or its signature not
	// at hand. Neither is part of a decision.
	b.Signed = false
	return policies.Compile(ctx, b, policies.Options{Budget: budget, Clock: func() time.Time { return time.Unix(0, r.NowNS) }})
}
