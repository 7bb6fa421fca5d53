package signature

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// content is what has to be signed: a manifest, or the tarball as a blob.
type content struct {
	bytes  []byte
	sum    []byte
	digest string
	blob   bool
}

func newContent(data []byte, blob bool) content {
	sum := sha256.Sum256(data)
	return content{bytes: data, sum: sum[:], digest: "sha256:" + hex.EncodeToString(sum[:]), blob: blob}
}

// contentOf returns what has to be signed for an artifact. That of a manifest
// comes with the proof that it names this tarball and nothing else.
func contentOf(a Artifact) (content, *Error) {
	if len(a.Tarball) == 0 {
		return content{}, refuse(Malformed, "the bundle is empty")
	}
	if a.Manifest == nil {
		return newContent(a.Tarball, true), nil
	}
	if len(a.Manifest) > MaxManifestBytes {
		return content{}, refuse(TooLarge, fmt.Sprintf("a manifest of %d bytes", len(a.Manifest)))
	}
	c := newContent(a.Manifest, false)
	layer, err := layerOf(a.Manifest)
	if err != nil {
		return c, &Error{Reason: Malformed, Digest: c.digest, Detail: printable("manifest: " + err.Error())}
	}
	if digest := newContent(a.Tarball, true).digest; layer.digest != digest || layer.size != int64(len(a.Tarball)) {
		return c, &Error{Reason: Altered, Digest: c.digest, Detail: printable(fmt.Sprintf(
			"its layer is %s with %d bytes, the bundle is %s with %d", layer.digest, layer.size, digest, len(a.Tarball)))}
	}
	return c, nil
}

type descriptor struct {
	mediaType, digest string
	size              int64
}

// layerOf reads a manifest with exactly one layer. A manifest that says more than
// we read is refused: somebody else could read it as something else. With a
// subject it would itself be a signature or an attestation of another image.
func layerOf(manifest []byte) (descriptor, error) {
	if err := checkJSON(manifest); err != nil {
		return descriptor{}, err
	}
	members, err := object(manifest, "schemaVersion", "mediaType", "artifactType", "config", "layers", "annotations")
	if err != nil {
		return descriptor{}, err
	}
	if version := members["schemaVersion"]; string(bytes.TrimSpace(version)) != "2" {
		return descriptor{}, fmt.Errorf("schemaVersion %q is not 2", version)
	}
	if mediaType, err := text(members, "mediaType"); err != nil || mediaType != "" && mediaType != ManifestMediaType {
		return descriptor{}, fmt.Errorf("media type %q is not %s", mediaType, ManifestMediaType)
	}
	if _, err := text(members, "artifactType"); err != nil {
		return descriptor{}, err
	}
	if _, err := readDescriptor(members["config"], "data", "platform", "artifactType"); err != nil {
		return descriptor{}, fmt.Errorf("config: %w", err)
	}
	var layers []json.RawMessage
	if err := json.Unmarshal(members["layers"], &layers); err != nil || len(layers) != 1 {
		return descriptor{}, fmt.Errorf("%d layers instead of one", len(layers))
	}
	layer, err := readDescriptor(layers[0])
	if err == nil && layer.mediaType != LayerMediaType {
		err = fmt.Errorf("media type %q is not %s", layer.mediaType, LayerMediaType)
	}
	if err != nil {
		return descriptor{}, fmt.Errorf("layer: %w", err)
	}
	return layer, checkAnnotations(members["annotations"])
}

func readDescriptor(raw json.RawMessage, further ...string) (descriptor, error) {
	if raw == nil {
		return descriptor{}, errors.New("missing")
	}
	members, err := object(raw, append(further, "mediaType", "digest", "size", "annotations")...)
	if err != nil {
		return descriptor{}, err
	}
	var d descriptor
	if d.mediaType, err = text(members, "mediaType"); err != nil {
		return d, err
	}
	if d.digest, err = text(members, "digest"); err != nil {
		return d, err
	}
	if _, err := sumOf(d.digest); err != nil {
		return d, err
	}
	// ParseInt, not Unmarshal: 1e3 and 1.0 are no sizes.
	d.size, err = strconv.ParseInt(string(members["size"]), 10, 64)
	if err != nil || d.size < 0 {
		return d, fmt.Errorf("size %q is not a number of bytes", members["size"])
	}
	return d, checkAnnotations(members["annotations"])
}

func checkAnnotations(raw json.RawMessage) error {
	var annotations map[string]string
	if raw == nil {
		return nil
	}
	if err := json.Unmarshal(raw, &annotations); err != nil {
		return fmt.Errorf("annotations: %w", err)
	}
	return nil
}

// sumOf reads a digest in its one spelling.
func sumOf(digest string) ([]byte, error) {
	const prefix = "sha256:"
	if len(digest) != len(prefix)+2*sha256.Size || digest[:len(prefix)] != prefix {
		return nil, fmt.Errorf("digest %q is not sha256:<64 hexadecimal digits>", digest)
	}
	sum, err := hex.DecodeString(digest[len(prefix):])
	if err != nil || prefix+hex.EncodeToString(sum) != digest {
		return nil, fmt.Errorf("digest %q is not sha256:<64 lower-case hexadecimal digits>", digest)
	}
	return sum, nil
}
