package main

import (
	"runtime/debug"
	"strings"
)

// stamped is the version that deploy/image tells the linker.
var stamped string //nolint:gochecknoglobals // the linker can set nothing else

// version returns the version of this build as its image was stamped, or else
// the Go toolchain; "devel" where neither did.
func version() string {
	v := "devel"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		v = info.Main.Version
	}
	if stamped != "" {
		v = stamped
	}
	switch {
	case insecureBuild && strings.Contains(v, "+"):
		v += ".insecure" // build metadata has one plus
	case insecureBuild:
		v += "+insecure"
	}
	return v
}
