// Package registry moves policy bundles and their signatures to and from an OCI
// registry.
//
// It promises that Pull returns bytes of the digest that was asked for, that
// whatever a registry answers is bounded in bytes, requests and time, and that
// credentials and bundles go over TLS, or unencrypted to a loopback address or to
// the registry that Config.PlainHTTP is about. Credentials come from the file that
// Config names, and from nowhere else: no program is started and no environment is
// read.
//
// It does not verify signatures: an Artifact is what the registry says, and
// package signature judges it.
//
// A bundle is an OCI image manifest with one layer, the tarball, in the media type
// that stock OPA pulls. Equal tarballs and annotations give equal manifests.
// Signatures are found where cosign puts them: under the tag sha256-<hex>.sig, and
// as referrers of the manifest, for registries without that API under the tag
// sha256-<hex>.
//
// A caller parses a Reference, resolves its tag to a digest once, and pulls that.
package registry
