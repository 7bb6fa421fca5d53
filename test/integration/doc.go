// Package integration holds tests of the built node plugin against a real etcd
// and kube-apiserver: facts, identity, status objects and events, through the CSI
// socket, with the rights of the plugin's own service account.
//
// They are built with the tags integration and insecure and need root. The
// kubelet is the test itself, and so is the provider; `make integration` runs
// them.
package integration
