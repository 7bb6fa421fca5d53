// Package identity turns what kubelet says about a pod into what the cluster
// confirms.
//
// It promises that a Confirmed pod exists under the claimed namespace, name
// and UID, is bound to this node, has not ended, is not being deleted before
// anything was mounted for it, is no static pod, runs as the claimed service
// account, and has an inline volume of the claimed name that belongs to this
// driver and carries the claimed attributes. It promises that a token which it
// calls verified was signed by the cluster for that audience, is in force, and
// names exactly this pod, namespace, service account and node; and that a
// token which verifies but names anything else confirms nobody. It promises
// that nobody is confirmed while the CSIDriver object lets authors of pods
// write kubelet's words. Every other answer is an error, and no error means
// "unknown, so go on".
//
// A token that does not verify is a fact, not an error: policy sees it as such.
// Keys that cannot be read are an error, not a fact, and so is an unknown key,
// another issuer or the wrong time where a token of the mounted volume was
// verified before: only facts about a pod may take content from it.
//
// It does not promise that kubelet itself is honest: whoever is root on the
// node is kubelet. Nor does it know whether a token was withdrawn, as a
// TokenReview would: it compares pod and service account by UID with the
// objects that exist, which is what withdraws a bound token.
//
// The caller first takes pod UID and volume name from the target path, which
// kubelet writes and no author of pods can choose (CVE-2020-8568), and puts
// those into the Claim. Keys in the pod's own spec that only kubelet may use
// are policies/kube's to refuse, at every gate.
package identity
