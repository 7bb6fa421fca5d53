// Package cosign has somebody else's signer and verifier meet ours: the command
// cosign, built from its release, signs what package signature then verifies, and
// verifies what that has signed, over a registry in this process.
//
// It promises nothing about keyless signing, which needs services of Sigstore;
// package signature tries that against a Sigstore of its own. It is a module of its
// own, so that what only its registry needs never reaches the product's go.mod; the
// command is built in tools/cosign for the same reason.
package cosign
