//go:build nightly

package main_test

import (
	"path/filepath"
	"testing"

	"github.com/portcullis-csi/portcullis/deploy/image/sourcetest"
)

// Everything again from nothing: other paths and an empty build cache. Takes
// minutes, so only nightly and before a release: make nightly.
func TestProductIsTheSameFromNothing(t *testing.T) {
	var outs []map[string]string
	for range 2 {
		clone := sourcetest.Clone(t, "../..")
		t.Setenv("GOCACHE", t.TempDir())
		run(t, "--source", clone, "--version", "9.9.9-test")
		outs = append(outs, contents(t, filepath.Join(clone, "bin", "images")))
	}
	for name, text := range outs[0] {
		if outs[1][name] != text {
			t.Errorf("%s differs between two builds", name)
		}
	}
	if len(outs[0]) != 18 || len(outs[1]) != 18 {
		t.Errorf("files are %v and %v, want 18 each", sizesOf(outs[0]), sizesOf(outs[1]))
	}
}
