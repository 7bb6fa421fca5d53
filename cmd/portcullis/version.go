package main

import "runtime/debug"

// stamped is the version that deploy/image tells the linker.
var stamped string //nolint:gochecknoglobals // the linker can set nothing else

// version returns the version of this build as its image was stamped, or else
// the Go toolchain; "devel" where neither did.
func version() string {
	if stamped != "" {
		return stamped
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}
