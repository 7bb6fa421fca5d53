// Package hardening is the only package that mounts, changes credentials or
// makes raw system calls. It is what stands between a decision and a file in
// a pod, small enough to be reviewed in one sitting.
//
// # What it promises
//
//   - A volume is a tmpfs that is built where nobody can see it, filled,
//     sealed read-only and then attached in one step: a pod sees all of it or
//     none of it (P4). If the process dies before the attach, the kernel drops
//     the volume with its descriptor.
//   - Pages of a volume do not reach swap: tmpfs with noswap, or mlock'd
//     mappings that the [System] holds (P5).
//   - Modes never exceed 0440 with a group, 0444 without, 0400 for a file with
//     an owner of its own, whatever the caller asks (P6).
//   - A [Volume.Replace] keeps mount and superblock, swaps all files in one
//     rename, leaves readers on their way the time to arrive, and leaves alone
//     what they have open or what a subPath has mounted (P9).
//   - A volume takes what its content needs twice and a page, and grows only as
//     far as [Volume.Allow] said.
//   - A [Target] is a place beneath the kubelet's pods directory, held by
//     descriptor. No path crosses this wall, no symbolic link below the pods
//     directory is followed.
//   - After [Confine] no thread has a capability that is not needed, a way to a
//     new one, or a system call that is not on the list (P5); and all of the above
//     works without them.
//   - A process that dies leaves nothing that fills a volume for good or that a
//     later start would leave unlocked: see [FaultPoint] for how that is tried.
//   - A volume says in itself for which target it was made. Found at another
//     it is nobody's: it is neither written nor scrubbed there, only unmounted.
//   - [Target.Detach] ends: whatever a privileged container left in or over the
//     volume, it neither blocks on it nor stops at it (P8). Nor does what one pod
//     mounts a thousand times hold up the volume of another.
//   - [Volume.Scrub] is a success only if nothing below the root has content any
//     more, open or not; what keeps it is an error, and the next call finds it.
//   - A [Plaintext] does not print, log or marshal.
//
// # What it does not promise
//
//   - Whoever can rename directories of the kubelet, or mount there, decides what
//     is at a path the moment after a call returned. A real directory that they
//     put at a target is taken for the kubelet's.
//   - A container with CAP_SYS_ADMIN can remount its own view read-write and
//     alter what its pod reads. Root on the node reads everything.
//   - The read-only flag of the mount is only as strong as the container
//     runtime's flags: the caller must refuse volumes without readOnly: true.
//   - With mlock nothing is protected while this process is down, and a
//     generation that [Volume.Replace] superseded is no longer locked although
//     a container may still hold its files open. What a subPath has mounted of
//     it is.
//   - Reading two files by two separate paths may mix two generations, as with
//     Kubernetes Secrets; opening ..data once and reading below that does not.
//   - Go may have copied secret bytes while they were outside a Plaintext.
//
// # What the caller does first
//
// Call [Confine] as the first thing in main, then [ProtectProcess], and [Open] once. Calls for
// one target must not overlap: [System] is safe for concurrent use, a [Target]
// and a [Volume] are not. Close what you open; after a restart in mlock mode
// call [System.Relock] before anything else.
package hardening
