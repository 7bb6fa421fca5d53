package main

import "github.com/portcullis-csi/portcullis/daemon"

// stamped is the version that deploy/image tells the linker.
var stamped string //nolint:gochecknoglobals // the linker can set nothing else

func version() string { return daemon.Version(stamped) }
