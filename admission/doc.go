// Package admission decides at the API server what the node plugin will decide
// again at the mount: the first of the two gates.
//
// It promises that a pod which the API server has reviewed here was decided on
// the same input, by the same engine, as it will be on the node (promise P2); that
// the event of an allow is durable before the answer (promise P1); and that
// whatever it cannot read, decide or record is refused, with a remedy. Equal
// refusals are worded as those of the node plugin. Workload templates are never
// refused, and a SecretProviderClass only where no pod could ever mount it.
//
// It does not promise that what it lets through will be mounted: facts change, and
// the mount decides. Nor does it know who calls it: whoever can reach its port can
// send reviews, and their events say what the review says.
//
// The caller serves the handlers that [New] returns behind TLS, each at a path of
// its own, and registers them for the resources that their names say.
package admission
