// Package policies is the vocabulary of a decision (Input, Decision, Grant)
// and the engine that makes one from a policy bundle.
//
// It promises:
//
//   - A decision is a pure function of the embedded library, the bundle and the
//     Input: no clock, no network, no environment. The same three give the same
//     verdict, the same findings and the same Decision.ID, so that every
//     recorded decision can be replayed.
//   - Not granted is the default. Only a completed evaluation of a valid,
//     unexpired bundle gives allow or deny; everything else is the verdict
//     error, which grants nothing and revokes nothing. Every zero value of this
//     package grants nothing.
//   - Hard checks hold whatever a bundle says: file mode ceilings, the required
//     fsGroup, read-only volumes, literal credentials, the contract version.
//   - A bundle that could weaken the combination of rules is refused when it is
//     compiled: foreign packages, missing schema annotations, rules that read
//     which gate asks, built-ins that are not pure.
//
// It does not verify signatures and reads no files: package bundle does, and
// hands over a Bundle. It does not check that an Input is true: the caller
// must have confirmed the identity of the pod, and must have built the Input
// from the parameters that the provider will be called with.
//
// A caller first compiles a Bundle with Compile, asks Engine.Decide, records the
// Decision, and only then calls Decision.Grant.
package policies
