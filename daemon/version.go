package daemon

import (
	"runtime/debug"
	"strings"
)

// Version returns the version of this build: stamped, which deploy/image tells
// the linker, or else the Go toolchain's; "devel" where neither is known.
func Version(stamped string) string {
	v := "devel"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		v = info.Main.Version
	}
	if stamped != "" {
		v = stamped
	}
	switch {
	case Insecure && strings.Contains(v, "+"):
		v += ".insecure" // build metadata has one plus
	case Insecure:
		v += "+insecure"
	}
	return v
}
