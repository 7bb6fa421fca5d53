package hardeningtest_test

import (
	"errors"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// tmpfsOptions tells what the kernel says to an option with a value and to
// noswap, on a thread of its own.
func tmpfsOptions(t *testing.T, before func() error) (mode, noswap error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends here
		if err := before(); err != nil {
			done <- err
			return
		}
		fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
		if err == nil {
			mode, noswap = unix.FsconfigSetString(fs, "mode", "0700"), unix.FsconfigSetFlag(fs, "noswap")
			err = unix.Close(fs)
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return mode, noswap
}

func TestHideNoswap(t *testing.T) {
	hardeningtest.NeedRoot(t)
	hardeningtest.NeedKernel(t, 6, 4, "tmpfs noswap")
	tests := []struct {
		name   string
		before func() error
		noswap error
	}{
		{"hidden", hardeningtest.HideNoswap, unix.EINVAL},
		{"another thread", func() error { return nil }, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			mode, noswap := tmpfsOptions(t, tt.before)
			if mode != nil || !errors.Is(noswap, tt.noswap) {
				t.Errorf("options mode and noswap = %v, %v, want nil, %v", mode, noswap, tt.noswap)
			}
		})
	}
}
