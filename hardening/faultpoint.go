//go:build !faultpoints

package hardening

// FaultPoint marks a step between two effects, where the tests of test/attack
// have the process killed. In a build without the tag faultpoints it is
// nothing, and neither are the names: they must be constants.
func FaultPoint(string) {}

// violationsEnd says whether a system call that the filter of [Confine] does not
// know ends the process, so that tests see it.
const violationsEnd = false
