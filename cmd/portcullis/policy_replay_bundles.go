package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/replay"
)

// errNoSuchBundle says that none of the bundles that were named decided.
var errNoSuchBundle = errors.New("is none of those that --bundle names")

// openBundles reads bundles and finds them by their digest, which is of their
// content: a name says nothing about who decided.
func openBundles(paths []string) (replay.Bundles, error) {
	byDigest := map[string]policies.Bundle{}
	for _, path := range paths {
		b, err := bundle.Open(path)
		if err != nil {
			return nil, withHint(fmt.Errorf("--bundle %q: %w", path, err))
		}
		byDigest[b.Digest] = b
	}
	return func(digest string) (policies.Bundle, error) {
		b, ok := byDigest[digest]
		if !ok {
			return b, fmt.Errorf("bundle %q %w", digest, errNoSuchBundle)
		}
		return b, nil
	}, nil
}

// keptBundles reads bundles that the node has kept.
func keptBundles(ctx context.Context, source recordedSource) replay.Bundles {
	return func(digest string) (policies.Bundle, error) {
		archive, err := source.Bundle(ctx, digest)
		if err != nil {
			return policies.Bundle{}, err
		}
		return bundle.ReadTarball(bytes.NewReader(archive))
	}
}
