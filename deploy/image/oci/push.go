package oci

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Referrer is a document about an image, stored beside it in a registry.
type Referrer struct {
	Subject     v1.Descriptor // the image's manifest
	MediaType   string
	Data        []byte
	Annotations map[string]string
}

// emptyConfig is the JSON object {} that artifacts without a config point at
// (OCI image specification 1.1, "guidance for an empty descriptor").
const emptyConfig = types.MediaType("application/vnd.oci.empty.v1+json")

// Push uploads the index under the tag, and then what refers to its images, so
// that a document never points at an image that is not there. Credentials are
// those of "docker login".
func Push(ctx context.Context, ref name.Tag, idx v1.ImageIndex, referrers ...Referrer) error {
	options := []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)}
	if err := remote.WriteIndex(ref, idx, options...); err != nil {
		return fmt.Errorf("push %s: %w", ref, err)
	}
	for _, r := range referrers {
		img, err := r.artifact()
		if err != nil {
			return fmt.Errorf("push document about %s: %w", ref, err)
		}
		digest, err := img.Digest()
		if err != nil {
			return fmt.Errorf("push document about %s: %w", ref, err)
		}
		if err := remote.Write(ref.Context().Digest(digest.String()), img, options...); err != nil {
			return fmt.Errorf("push document about %s: %w", ref, err)
		}
	}
	return nil
}

// artifact is an OCI manifest of its own with a subject.
type artifact struct {
	manifest []byte
	layers   map[v1.Hash]v1.Layer
}

func (r *Referrer) artifact() (v1.Image, error) {
	config, layer := static.NewLayer([]byte("{}"), emptyConfig), static.NewLayer(r.Data, types.MediaType(r.MediaType))
	subject := v1.Descriptor{MediaType: r.Subject.MediaType, Size: r.Subject.Size, Digest: r.Subject.Digest}
	m := v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, ArtifactType: r.MediaType,
		Subject: &subject, Annotations: r.Annotations,
	}
	a := &artifact{layers: map[v1.Hash]v1.Layer{}}
	for _, l := range []v1.Layer{config, layer} {
		d, err := partial.Descriptor(l)
		if err != nil {
			return nil, err
		}
		a.layers[d.Digest] = l
		if l == config {
			m.Config = *d
		} else {
			m.Layers = append(m.Layers, *d)
		}
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	a.manifest = raw
	return partial.CompressedToImage(a)
}

// RawManifest returns the manifest's bytes.
func (a *artifact) RawManifest() ([]byte, error) { return a.manifest, nil }

// RawConfigFile returns the empty config.
func (a *artifact) RawConfigFile() ([]byte, error) { return []byte("{}"), nil }

// MediaType is that of an OCI image manifest.
func (a *artifact) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// LayerByDigest returns the document, or the empty config.
func (a *artifact) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	l := a.layers[h]
	if l == nil {
		return nil, fmt.Errorf("find layer %s: there is none", h)
	}
	return l, nil
}
