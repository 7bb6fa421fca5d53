// Package image writes container images without a registry and without a
// daemon: one layer, as a tar archive in the OCI layout, which containerd
// imports.
//
// It promises equal bytes for equal input. It is for what the lab's pods run,
// not for what is released: that is deploy/image.
package image
