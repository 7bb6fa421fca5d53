// Package programs builds what the test cluster runs: Kubernetes and etcd, the
// container runtime, and the few programs of this project that a node needs.
//
// It promises that one set of sources is built once per machine, by whoever
// comes first, and that an interrupted build leaves nothing that looks finished.
// Binaries are kept outside the clone, below PORTCULLIS_CLUSTER or the user's
// cache directory, in a directory named after the hash of what they were built
// from.
//
// It does not remove what older sources were built into, and a first build of
// Kubernetes takes minutes: the caller gives a context that allows for it.
package programs
