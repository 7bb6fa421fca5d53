// Package controlplane runs a real etcd and kube-apiserver as child processes,
// without root, containers or a network beyond loopback.
//
// It promises that both end when the process that started them ends, however
// that happens; that etcd is reachable through a socket of a private directory
// only; and that the API server authorizes with Node and RBAC, and signs
// service account tokens, as a production cluster does.
//
// It does not run controllers, a scheduler or a kubelet: whoever uses it creates
// the objects that these would, and nothing is garbage collected.
//
// The caller first calls Build, which takes minutes once per version and
// machine, then Start.
package controlplane
