// Package signature says who vouches for a policy bundle.
//
// It promises that Trust.Verify names a signer only where cosign's own code has
// verified a signature over exactly these bytes: the digest of an OCI manifest
// that names the bundle as its one layer, or the bundle itself, signed as a blob.
// It verifies offline: it asks no network, reads no environment and no directory,
// and trusts nothing but the keys, the trusted root and the identities that it was
// given. Both of cosign's formats are read, the classic one and the bundle of
// Sigstore.
//
// A key vouches by its signature alone. A certificate, which is valid for minutes,
// vouches by what the trusted root can check: an entry of the transparency log if
// the root holds one, else a timestamp; the time now never counts. An embedded proof
// that the certificate itself was logged is wanted if the root holds such logs.
//
// It trusts no byte of an Artifact: each may come from a registry, a cache or a
// disk that somebody else has written.
//
// It does not fetch (package registry does) and knows no serial and no end: whether
// a bundle that is signed may be in force is package bundle's.
package signature
