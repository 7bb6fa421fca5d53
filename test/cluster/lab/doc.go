// Package lab runs a whole one-node Kubernetes: etcd, the control plane, kubelet,
// containerd and runc, on a machine with nothing but root, Go and four packages
// of Debian.
//
// It promises a node that is Ready when Up returns, with a kubelet, RBAC and
// containers as real as anywhere; private namespaces, so that two labs do not see
// each other and no packet leaves the machine; and that Down, the end of Limit or
// the end of a caller that asked for it leaves no process, mount, cgroup, link or
// file behind.
//
// It has no kube-proxy and no DNS: pods reach the API server at its service
// address, the API server reaches webhooks behind services by their endpoints,
// and other cluster addresses answer nobody. Images are loaded, not pulled.
//
// The caller first calls Build, which takes minutes once per version and
// machine, then Up. Tests that share a lab call Open.
package lab
