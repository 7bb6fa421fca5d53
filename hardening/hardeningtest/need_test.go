package hardeningtest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// outcome is a testing.TB that remembers instead of stopping.
type outcome struct {
	testing.TB
	skipped, failed string
	cleanups        []func()
}

func (*outcome) Helper() {}

func (o *outcome) Skip(args ...any) { o.skipped = fmt.Sprint(args...) }

func (o *outcome) Fatalf(format string, args ...any) { o.failed = fmt.Sprintf(format, args...) }

func (o *outcome) Cleanup(f func()) { o.cleanups = append(o.cleanups, f) }

func TestNeedKernel(t *testing.T) {
	tests := []struct {
		name          string
		major         int
		required      string
		skips, failed bool
	}{
		{name: "old kernel is enough", major: 2},
		{name: "old kernel is enough where required", major: 2, required: "1"},
		{name: "kernel of the future is skipped", major: 999, skips: true},
		{name: "kernel of the future fails where required", major: 999, required: "1", failed: true},
		{name: "another value requires nothing", major: 999, required: "0", skips: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("REQUIRE_ROOT", tt.required)
			var o outcome
			hardeningtest.NeedKernel(&o, tt.major, 6, "time travel")
			if got := o.skipped != ""; got != tt.skips {
				t.Errorf("NeedKernel(%d) skipped with %q, want skip %v", tt.major, o.skipped, tt.skips)
			}
			if got := o.failed != ""; got != tt.failed {
				t.Errorf("NeedKernel(%d) failed with %q, want failure %v", tt.major, o.failed, tt.failed)
			}
			if text := o.skipped + o.failed; text != "" && !strings.Contains(text, "time travel") {
				t.Errorf("NeedKernel(%d) says %q, want the feature in it", tt.major, text)
			}
		})
	}
}

func TestNeedRoot(t *testing.T) {
	for _, required := range []string{"", "1"} {
		t.Run("required="+required, func(t *testing.T) {
			t.Setenv("REQUIRE_ROOT", required)
			var o outcome
			hardeningtest.NeedRoot(&o)
			if os.Geteuid() != 0 && (o.skipped == "") == (required == "") {
				t.Errorf("NeedRoot() as uid %d: skipped %q, failed %q", os.Geteuid(), o.skipped, o.failed)
			}
			if required == "1" && o.skipped != "" {
				t.Errorf("NeedRoot() skipped with %q, want never where REQUIRE_ROOT=1", o.skipped)
			}
			if required == "" && o.failed != "" {
				t.Errorf("NeedRoot() failed with %q, want a skip", o.failed)
			}
		})
	}
}

func TestVolumeDir(t *testing.T) {
	root := t.TempDir()
	var o outcome
	target := hardeningtest.VolumeDir(&o, root, "uid", "vol")
	want := filepath.Join(root, "pods/uid/volumes/kubernetes.io~csi/vol/mount")
	if target != want || o.failed != "" {
		t.Fatalf("VolumeDir() = %q (%s), want %q", target, o.failed, want)
	}
	if _, err := os.Stat(filepath.Dir(target)); err != nil {
		t.Errorf("VolumeDir() left no directory: %v", err)
	}
	if _, err := os.Stat(target); !os.IsNotExist(err) {
		t.Errorf("VolumeDir() made the mount directory, want that left to the driver: %v", err)
	}
	if len(o.cleanups) != 1 {
		t.Errorf("VolumeDir() registered %d cleanups, want 1", len(o.cleanups))
	}
	for _, f := range o.cleanups {
		f()
	}
}

func TestVolumeDirFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var o outcome
	if hardeningtest.VolumeDir(&o, file, "uid", "vol"); o.failed == "" {
		t.Errorf("VolumeDir(%q) succeeded below a file, want a failure", file)
	}
}
