package node_test

import (
	"os"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// A trial leaves nothing: neither a mount nor an open file.
func TestLookingLeavesNothing(t *testing.T) {
	hardeningtest.NeedRoot(t)
	c := place(t)
	table := func() string {
		text, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	files := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	gather(t, c) // what the runtime opens once
	mounts, open := table(), files()
	for range 5 {
		if n := gather(t, c); !n.Kernel.Probed {
			t.Fatalf("Kernel = %+v, want a volume made on trial", n.Kernel)
		}
	}
	if table() != mounts {
		t.Error("the mount table has changed")
	}
	for deadline := time.Now().Add(time.Minute); files() > open; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d files are open, want %d as before", files(), open)
		}
	}
}
