// Package identity turns what kubelet says about a pod into what the cluster
// confirms.
//
// It promises that a Confirmed pod exists under the claimed namespace, name
// and UID, is bound to this node, has not ended, runs as the claimed service
// account, and has an inline volume of the claimed name that belongs to this
// driver and carries the claimed attributes. Every other answer is an error,
// and no error means "unknown, so go on".
//
// It does not promise that kubelet itself is honest: whoever is root on the
// node is kubelet. It does not read service account tokens.
//
// The caller first takes pod UID and volume name from the target path, which
// kubelet writes and no author of pods can choose (CVE-2020-8568), and puts
// those into the Claim.
package identity
