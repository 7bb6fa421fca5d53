package main

import (
	"runtime/debug"
)

// version returns the version of this build as the Go toolchain stamped it,
// "devel" where it did not.
func version() string {
	v := "devel"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		v = info.Main.Version
	}
	if insecureBuild {
		v += "+insecure"
	}
	return v
}
