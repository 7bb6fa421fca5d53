// Package podstatus tells the cluster what is mounted: it keeps the
// SecretProviderClassPodStatus objects that tools for the upstream driver
// read, and reports on a pod what kubelet does not.
//
// It promises that whoever mounts never waits for it: Writer.Set, Writer.Forget
// and Events.Say take a lock and return, whatever state the API server is in.
// A status is written until it is written, once per change, and nothing is
// kept of a pod whose volumes are gone. An event is an offer: it is dropped,
// and counted, where the API server does not keep up. A namespace that refuses,
// hangs or holds large objects costs no other its status and no memory.
//
// It does not decide, and nothing may depend on what it wrote: the objects lie
// in namespaces whose owners can edit them. What a provider calls its objects
// and versions is written only as far as it looks like an id or a version; a
// provider that disguises a secret as one is beyond it.
//
// The caller makes a Writer with NewWriter, calls Set for everything that is
// mounted already, so that nothing is written again that was written before,
// and then Run, which ends with its context. Events need Run as well.
package podstatus
