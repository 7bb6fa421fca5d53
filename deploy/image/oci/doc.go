// Package oci packs files into OCI images, writes them as tarballs and pushes
// them.
//
// It promises that equal files give equal digests: entries are sorted, owned by
// root, with two mode bits patterns and one time, and nothing is taken from the
// machine. A tarball is an OCI image layout that also carries what "docker load"
// of old reads; containerd, podman, skopeo and Docker find the reference in it.
//
// The compressor is that of the Go toolchain, so digests are those of the
// toolchain that runs this program; the caller compares it with the one that
// go.mod names.
package oci
