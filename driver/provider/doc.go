// Package provider fetches the granted secrets from a provider and writes them
// into a volume.
//
// It promises:
//   - Nothing is asked for without a Grant, and only for the very parameters
//     the grant was given for: their digest is compared before the first byte
//     leaves.
//   - What was granted is what is written. The whole reply is checked against
//     the grant before the first write; one file too many, too few, twice, or
//     under another name, and nothing is written at all.
//   - No secret byte leaves the package except into the Volume: the types it
//     returns hold names, sizes, modes and versions. What a provider says in
//     words (error messages, error codes) reaches no error, log or metric,
//     since that is how secrets have leaked elsewhere.
//   - Received fragments, token buffers and file contents are overwritten
//     before Deliver returns.
//   - One hung provider delays nobody else: slots are counted per provider and
//     waited for under the caller's deadline.
//
// It does not promise to hold back a provider that puts a secret into an
// object version or an object id; those are part of the protocol and go to the
// caller, bounded and printable. It does not wipe what it never owns: kernel
// socket buffers, the provider's memory, and the strings in which kubelet's
// request arrived. Ids that the provider returns are not yet compared with the
// granted secret ids.
//
// The caller first obtains a policies.Grant from an allowed decision that is
// already recorded, and a Volume that no pod can see yet, or for a rotation
// the mounted one.
package provider
