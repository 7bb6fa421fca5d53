// Package clustertest gives tests a real API server.
//
// It promises a cluster of its own to every Start, with RBAC, and its end at the
// end of the test; what a failing test needs of the API server's log is in its
// output. See package controlplane for what the cluster is and is not.
package clustertest
