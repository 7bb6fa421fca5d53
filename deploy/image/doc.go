// Command image builds Portcullis's container images without Docker: the
// programs for every platform, packed from scratch, as tarballs with a software
// bill of materials each, and pushes them when told to.
//
//	go run -C deploy/image . --help
//
// The images hold static binaries, licences and, where a program may dial TLS,
// certificate authorities; no shell, no package manager, no /etc/passwd. Equal
// commits give equal digests (see package compile for what is fixed, package
// oci for the rest), which anybody can check by building again.
//
// It is a module of its own, so that what builds images is never linked into
// the product.
package main
