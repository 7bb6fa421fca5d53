// Package swap holds the tests that force memory out into a swap file and look
// there for what must never be in it: pages of volumes, of a process that holds
// secrets, of the built plugin. make attack runs them, as root.
//
// It promises that a pass means that the reclaim took place: a control without
// the protection is found in the swap file in the same run, or the run fails. The
// swap file, the cgroup, the mounts and the processes are gone when it ends,
// however it ends. It does not promise to be gentle: while it runs, other
// processes of the machine may be swapped into its file, and are fetched back.
// There is nothing to do first but to be root.
package swap
