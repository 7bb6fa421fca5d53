// Package sbom describes an image as a CycloneDX document.
//
// It promises that the document says what was linked and nothing else: modules,
// versions, sums and toolchain are read from the binaries themselves, which is
// what "go version -m" shows. The same image gives the same document: its time
// is that of the image, its serial number comes from the image's digest.
//
// The hash of a module is the one that go.sum has (h1): SHA-256 over the names
// and hashes of its files, not over an archive.
package sbom
