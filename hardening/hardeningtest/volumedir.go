package hardeningtest

import (
	"os"
	"path/filepath"
	"testing"
)

// VolumeDir does what the kubelet does before it calls the driver: it makes
// <kubeletRoot>/pods/<podUID>/volumes/kubernetes.io~csi/<volume>, and returns
// the target path in it, which does not exist yet. Whatever is mounted there
// when the test ends is unmounted.
func VolumeDir(t testing.TB, kubeletRoot, podUID, volume string) (target string) {
	t.Helper()
	dir := filepath.Join(kubeletRoot, "pods", podUID, "volumes", "kubernetes.io~csi", volume)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatalf("make volume directory: %v", err)
	}
	target = filepath.Join(dir, "mount")
	t.Cleanup(func() { unmountAll(target) })
	return target
}
