package registry

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
)

// maxUnpacked bounds what the tarball is unpacked to for its other digest, above
// what package bundle accepts.
const maxUnpacked = 64 << 20

// maxAnnotations bounds the annotations of a manifest.
const maxAnnotations = 16 << 10

// Manifest returns the manifest of a bundle, which is what signers sign, and its
// digest. Equal tarballs and annotations give equal bytes.
func Manifest(tarball []byte, annotations map[string]string) (text []byte, digest string, err error) {
	text, _, err = describe(tarball, annotations)
	return text, digestOf(text), err
}

// describe returns the manifest and the config of a bundle.
func describe(tarball []byte, annotations map[string]string) (text, config []byte, err error) {
	if len(tarball) > MaxBundleBytes {
		return nil, nil, fmt.Errorf("describe bundle: %d bytes are more than %d", len(tarball), MaxBundleBytes)
	}
	total := 0
	for k, v := range annotations {
		total += len(k) + len(v)
	}
	if total > maxAnnotations {
		return nil, nil, fmt.Errorf("describe bundle: annotations of %d bytes are more than %d", total, maxAnnotations)
	}
	inside, err := unpackedDigest(tarball)
	if err != nil {
		return nil, nil, fmt.Errorf("describe bundle: %w", err)
	}
	// A config as the image specification wants it, so that tools for images copy
	// and scan a bundle too. It holds no time: nothing but the tarball counts.
	config, err = json.Marshal(imageConfig{Architecture: "unknown", OS: "unknown", RootFS: rootFS{"layers", []string{inside}}})
	if err != nil {
		return nil, nil, err
	}
	text, err = json.Marshal(manifest{
		SchemaVersion: 2, MediaType: signature.ManifestMediaType,
		Config:      blobOf(configMediaType, config),
		Layers:      []descriptor{blobOf(signature.LayerMediaType, tarball)},
		Annotations: maps.Clone(annotations),
	})
	return text, config, err
}

type (
	imageConfig struct {
		Architecture string   `json:"architecture"`
		OS           string   `json:"os"`
		Config       struct{} `json:"config"`
		RootFS       rootFS   `json:"rootfs"`
	}
	rootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	}
)

func blobOf(mediaType string, content []byte) descriptor {
	return descriptor{MediaType: mediaType, Digest: digestOf(content), Size: int64(len(content))}
}

func unpackedDigest(tarball []byte) (string, error) {
	z, err := gzip.NewReader(bytes.NewReader(tarball))
	if err != nil {
		return "", fmt.Errorf("not a tar.gz: %w; hint: push what portcullis policy build wrote", err)
	}
	sum := sha256.New()
	n, err := io.Copy(sum, io.LimitReader(z, maxUnpacked+1))
	if err == nil && n > maxUnpacked {
		err = errors.New("it unpacks to more than a bundle may; hint: push what portcullis policy build wrote")
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), err
}

// Push writes a bundle and returns the digest of its manifest. A tag is moved to
// it; without a tag the bundle can be pulled by its digest only. A digest in the
// reference has to be that of the bundle.
func (c *Client) Push(ctx context.Context, ref Reference, tarball []byte, annotations map[string]string) (string, error) {
	text, config, err := describe(tarball, annotations)
	if err != nil {
		return "", err
	}
	digest := digestOf(text)
	err = c.operation(ctx, ref, "push", func(ctx context.Context) error {
		if ref.digest != "" && ref.digest != digest {
			return problemf(ReasonWrongDigest, "leave the digest out, or push the bundle that it is of", "the bundle has digest %s", digest)
		}
		w, err := c.writer(ctx, ref)
		if err != nil {
			return err
		}
		if err := w.blob(signature.LayerMediaType, tarball); err != nil {
			return err
		}
		if err := w.blob(configMediaType, config); err != nil {
			return err
		}
		identifier := ref.tag
		if identifier == "" {
			identifier = digest
		}
		return w.manifest(identifier, signature.ManifestMediaType, text)
	})
	if err != nil {
		return "", err
	}
	return digest, nil
}

// writer writes to one repository.
type writer struct {
	*session

	options []remote.Option
}

func (c *Client) writer(ctx context.Context, ref Reference) (*writer, error) {
	s, err := c.session(ctx, ref, transport.PushScope)
	if err != nil {
		return nil, err
	}
	return &writer{s, []remote.Option{
		remote.WithContext(ctx), remote.WithTransport(s.transport),
		// Its waiting between attempts does not end with the context.
		remote.WithRetryPredicate(func(error) bool { return false }),
	}}, nil
}

func (w *writer) blob(mediaType string, content []byte) error {
	return withHelper(remote.WriteLayer(w.repo, static.NewLayer(content, types.MediaType(mediaType)), w.options...), w.helper)
}

// manifest writes one under a tag or its digest. Where it has a subject,
// go-containerregistry keeps the list under the fallback tag, for registries that
// do not know referrers.
func (w *writer) manifest(identifier, mediaType string, text []byte) error {
	var at name.Reference = w.repo.Tag(identifier)
	if digestForm.MatchString(identifier) {
		at = w.repo.Digest(identifier)
	}
	return withHelper(remote.Put(at, rawManifest{text, types.MediaType(mediaType)}, w.options...), w.helper)
}

// rawManifest is a remote.Taggable of given bytes.
type rawManifest struct {
	text      []byte
	mediaType types.MediaType
}

// RawManifest returns the bytes.
func (m rawManifest) RawManifest() ([]byte, error) { return m.text, nil }

// MediaType returns the media type.
func (m rawManifest) MediaType() (types.MediaType, error) { return m.mediaType, nil }
