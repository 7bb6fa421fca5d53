//go:build attack

package swap_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// host is a kubelet root with a volumes process for it.
type host struct {
	root       string
	protection hardening.Setting
	*child
}

func newHost(t *testing.T, p *proof, s hardening.Setting) *host {
	t.Helper()
	h := &host{root: t.TempDir(), protection: s}
	if err := os.Mkdir(filepath.Join(h.root, "pods"), 0o750); err != nil {
		t.Fatal(err)
	}
	h.start(t, p)
	return h
}

// start is a start of the plugin, as far as volumes are concerned.
func (h *host) start(t *testing.T, p *proof) {
	t.Helper()
	h.child = startChild(t, "volumes", born{group: p.group})
	h.ask(t, "open", h.root, string(h.protection))
}

// publish mounts a volume and returns its files, by the names that a subPath
// mount would resolve now.
func (h *host) publish(t *testing.T, volume, canary string) []string {
	t.Helper()
	dir := hardeningtest.VolumeDir(t, h.root, podUID, volume)
	h.ask(t, "publish", volume, canary)
	return []string{filepath.Join(dir, "..data/a"), filepath.Join(dir, "..data/b")}
}

// plain mounts a tmpfs without any protection and returns its file.
func (h *host) plain(t *testing.T, canary string) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	h.ask(t, "plain", dir, canary)
	return filepath.Join(dir, "a")
}

// TestP5NoPageOfAVolumeReachesSwap forces the kernel to reclaim everything that
// it can from volumes of both protections and from tmpfs without any, and reads
// the swap file. That the latter are found there gives the former their meaning.
func TestP5NoPageOfAVolumeReachesSwap(t *testing.T) {
	for _, s := range []hardening.Setting{hardening.SettingNoswap, hardening.SettingMlock} {
		t.Run(string(s), func(t *testing.T) {
			hardeningtest.NeedKernel(t, 5, 12, "mount_setattr")
			if s == hardening.SettingNoswap {
				hardeningtest.NeedKernel(t, 6, 4, "tmpfs noswap")
			}
			reclaimVolumes(t, newProof(t), s)
		})
	}
}

func reclaimVolumes(t *testing.T, p *proof, s hardening.Setting) {
	pager := startChild(t, "pager", born{})
	live := newHost(t, p, s)
	hold := func(files ...string) { pager.ask(t, append([]string{"hold"}, files...)...) }
	hold(live.plain(t, p.control("plain tmpfs")))
	// What a mapping is worth that is not locked: the difference between this
	// and a volume under mlock is the lock alone. Nobody asks for these pages by
	// name, so it also says what reclaim of the whole cgroup finds.
	pager.ask(t, "map", live.plain(t, p.control("plain tmpfs, mapped by a process")))
	hold(live.publish(t, "live", p.safe("volume"))...)
	live.ask(t, "fill", p.safe("volume that is not attached yet"))

	// Where mlock ends, as SECURITY.md states it: noswap belongs to the
	// volume, a lock to a generation and to a process. Found for mlock, these
	// also prove that a volume under mlock is squeezed as hard as a plain tmpfs.
	limit := p.safe
	if s == hardening.SettingMlock {
		limit = p.control
	}
	hold(live.publish(t, "rotated", limit("old generation, held open after a rotation"))...)
	live.ask(t, "replace", "rotated", p.safe("new generation after a rotation"))

	gone := newHost(t, p, s)
	hold(gone.publish(t, "gone", limit("volume whose process was killed"))...)
	gone.kill(t)

	again := newHost(t, p, s)
	hold(again.publish(t, "again", p.safe("volume after a restart of its process"))...)
	again.kill(t)
	again.start(t, p)
	locked := again.ask(t, "relock")
	if want := map[hardening.Setting]string{hardening.SettingNoswap: "0", hardening.SettingMlock: "2"}[s]; locked != want {
		t.Errorf("Relock() after a restart = %s, want %s", locked, want)
	}

	p.press(t, pager)
	p.verdict(t)
}

// TestP5NoPageOfTheProcessReachesSwap does so with two processes that hold
// secrets, of which one called ProtectProcess.
func TestP5NoPageOfTheProcessReachesSwap(t *testing.T) {
	p := newProof(t)
	protected := startChild(t, "protected", born{group: p.group})
	protected.ask(t, "hold", p.safe("process after ProtectProcess"))
	unprotected := startChild(t, "unprotected", born{group: p.group})
	unprotected.ask(t, "hold", p.control("process without"))
	p.press(t, protected, unprotected)
	p.verdict(t)
}
