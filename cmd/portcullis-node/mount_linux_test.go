package main_test

import (
	"os"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/hardening"
)

// volume mounts what the mount table shows as a volume of ours: volume DIR.
func volume(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: volume DIR")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o750))
	ts.Check(unix.Mount(hardening.Marker, dir, "tmpfs", 0, "size=4k"))
	ts.Defer(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

// unmount undoes volume: unmount DIR.
func unmount(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: unmount DIR")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(unix.Unmount(dir, 0))
	ts.Check(os.Remove(dir))
}
