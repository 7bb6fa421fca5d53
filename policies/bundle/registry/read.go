package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
)

// The media types of indexes, in Accept so that a registry says what is there
// instead of converting it.
const (
	indexMediaType      = "application/vnd.oci.image.index.v1+json"
	dockerListMediaType = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// request is one question to a registry about a repository.
type request struct {
	method, path, accept string
	most                 int64 // bytes of the answer
}

// answer is what came back, with a status of 200.
type answer struct {
	header http.Header
	body   []byte
}

// ask sends a request that reads. Any status but 200 is a problem.
func (s *session) ask(ctx context.Context, r request) (answer, error) {
	u := s.repo.Scheme() + "://" + s.repo.RegistryStr() + "/v2/" + s.repo.RepositoryStr() + "/" + r.path
	req, err := http.NewRequestWithContext(withBody(ctx, r.most), r.method, u, nil)
	if err != nil {
		return answer{}, err
	}
	if r.accept != "" {
		req.Header.Set("Accept", r.accept)
	}
	res, err := s.client.Do(req)
	if err != nil {
		return answer{}, withHelper(err, s.helper)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return answer{}, withHelper(ofStatus(res.StatusCode), s.helper)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return answer{}, err
	}
	return answer{res.Header, body}, nil
}

// manifest reads a manifest by tag or digest, and checks the digest.
func (s *session) manifest(ctx context.Context, identifier string, most int64) ([]byte, error) {
	a, err := s.ask(ctx, request{http.MethodGet, "manifests/" + identifier, acceptManifests(), most})
	if err != nil {
		return nil, err
	}
	return a.body, checkDigest(identifier, a.body)
}

func acceptManifests() string {
	return signature.ManifestMediaType + ", " + indexMediaType + ", " + dockerListMediaType
}

// blob reads a blob of a size that a manifest has promised.
func (s *session) blob(ctx context.Context, digest string, size, most int64) ([]byte, error) {
	if !digestForm.MatchString(digest) || size < 0 {
		return nil, problemf(ReasonNotBundle, "push it again with portcullis policy push", "it names a blob of digest %s and %d bytes", quote(digest), size)
	}
	if size > most {
		return nil, problemf(ReasonTooLarge, "is there a bundle at that reference?", "it names a blob of %d bytes, and %d are the most", size, most)
	}
	a, err := s.ask(ctx, request{method: http.MethodGet, path: "blobs/" + digest, most: size})
	if err != nil {
		return nil, err
	}
	return a.body, checkDigest(digest, a.body)
}

// checkDigest compares what came with the digest that was asked for. A tag promises
// nothing.
func checkDigest(identifier string, body []byte) error {
	if got := digestOf(body); digestForm.MatchString(identifier) && got != identifier {
		return problemf(ReasonWrongDigest, "the registry, or something on the way, replaces content: do not use it before that is understood",
			"it answers with %s instead of %s", got, identifier)
	}
	return nil
}

func digestOf(body []byte) string {
	sum := sha256.Sum256(body)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Resolve returns the digest of the manifest that a reference names: that in the
// reference, or what the registry has under the tag, which costs one request.
func (c *Client) Resolve(ctx context.Context, ref Reference) (string, error) {
	if ref.digest != "" {
		return ref.digest, nil
	}
	var digest string
	err := c.operation(ctx, ref, "look up the tag", func(ctx context.Context) error {
		s, err := c.session(ctx, ref, transport.PullScope)
		if err != nil {
			return err
		}
		a, err := s.ask(ctx, request{http.MethodHead, "manifests/" + ref.tag, acceptManifests(), signature.MaxManifestBytes})
		if err != nil {
			return err
		}
		if digest = a.header.Get("Docker-Content-Digest"); digest == "" {
			// The specification does not oblige registries to say it.
			body, err := s.manifest(ctx, ref.tag, signature.MaxManifestBytes)
			digest = digestOf(body)
			return err
		}
		if !digestForm.MatchString(digest) {
			return problemf(ReasonMalformed, "is it a registry?", "it says that the digest is %s", quote(digest))
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return digest, nil
}

// absent tells whether the registry said that something is not there.
func absent(err error) bool {
	p, ok := errors.AsType[*problem](err)
	return ok && p.reason == ReasonNotFound
}
