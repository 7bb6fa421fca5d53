// Package driver is the CSI node plugin: it answers kubelet, and takes every
// mount through the same stations.
//
// The story of a mount. Kubelet calls NodePublishVolume. The target path is
// taken apart: it must have exactly kubelet's form, and gives pod UID and
// volume name that no author of pods can choose. One lock a target makes the
// rest happen once at a time. The mount table says what is there already: our
// own volume makes the call a republish, somebody else's mount is left alone.
// Otherwise every field of the request is checked, the pod is confirmed by the
// cluster (package identity), its SecretProviderClass is merged with the
// volume's attributes, and policy decides on the result (package policies).
// The decision is durable in the audit log before anything is fetched. Then
// memory is reserved, the secrets go from the provider's socket straight into
// a detached tmpfs (packages driver/provider and hardening), and the finished
// volume appears in the pod complete and read-only, in one step.
//
// It promises that a first publish that fails leaves nothing mounted; that a
// republish never unmounts, never answers a final error and never lets an
// error take content away; that a denial does, once a second one agrees, unless
// too many volumes of the node are denied at once; that neither an unpublish nor
// a revocation waits for a log, API server or provider; and that a reply holds
// rule names, our own words and a decision id, and nothing that a provider said.
//
// It does not hold secret bytes in any type, field or variable. Secrets that
// kubelet sends in a request are handed to package driver/provider unread.
//
// What policy has allowed stays under policy. A bundle that comes into force
// (PolicyChanged) and a change of a running pod (PodChanged) have mounted
// volumes decided on again, by Reauthorise, at a bounded pace and without the
// provider: a denial takes the same way as one in kubelet's call.
//
// The caller makes a Driver with New, calls Recover once, then Serve on a
// socket from Listen, Reauthorise beside it, and Sweep once a minute.
package driver
