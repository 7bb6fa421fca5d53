// Package conformance holds the node plugin to the Container Storage Interface:
// the real program, on its real socket, called as a container orchestrator
// calls it.
//
// Its tests are of two kinds. csi-test's sanity suite, which every CSI driver
// is measured by, runs as far as it speaks of a node plugin; what it skips is
// on a list with reasons, every other spec must have run and passed, and no
// entry may be left over. Beside it are tests of what the suite cannot ask an
// ephemeral plugin, taken from the text of the specification: every RPC of
// every service, every required field, the life of a volume from first publish
// to last unpublish.
//
// It promises nothing about Kubernetes: manifests stand in for the API server,
// and the tests for kubelet. It is a module of its own, so that the suite and
// its framework never reach the product's go.mod, and knows the product only as
// two programs, which it builds from the tree around it. Its tests need root.
package conformance
