//go:build attack

package swap_test

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// startCase is a start of the built plugin.
type startCase struct {
	name    string
	verbs   []string // what it lacks
	setting string   // of --swap-protection
	refused []string // what it says; nil if it starts
	code    int      // with which it ends
	log     []string // what it logs if it starts
}

// What it logs.
const (
	locked       = "dumpable=false memoryLocked=true"
	noswapChosen = "swapProtection=noswap"
	mlockChosen  = "swapProtection=mlock"
)

// The verbs of a program child.
const (
	unlockable = "unlockable" // no CAP_IPC_LOCK, RLIMIT_MEMLOCK of 8 MiB
	oldKernel  = "old-kernel" // no tmpfs option noswap
)

// TestP5StartIsRefusedWhereMemoryCouldReachSwap tries the built plugin with swap
// on and off. What is refused in the one case starts in the other, so it is
// swap that is refused.
func TestP5StartIsRefusedWhereMemoryCouldReachSwap(t *testing.T) {
	hardeningtest.NeedRoot(t)
	hardeningtest.NeedKernel(t, 5, 12, "mount_setattr")
	binary := build(t, "portcullis-node")
	t.Run("swap on", func(t *testing.T) {
		newSwapArea(t, startKeeper(t)).on(t)
		for _, tt := range []startCase{
			{
				name: "locking not permitted", verbs: []string{unlockable}, setting: "auto", code: 1,
				refused: []string{"portcullis-node: process memory: swap is active and locking memory is not permitted (", "; hint: grant CAP_IPC_LOCK, or turn swap off on this node\n"},
			},
			{name: "locking permitted", setting: "auto", log: []string{locked, noswapChosen}},
			{
				name: "no noswap, mlock not asked for", verbs: []string{oldKernel}, setting: "auto", code: 1,
				refused: []string{"portcullis-node: --swap-protection: this kernel has no tmpfs option noswap and swap is active; hint: turn swap off, use Linux 6.4 or later, or accept with --swap-protection=mlock that volumes are unprotected while the plugin is down\n"},
			},
			{
				name: "no noswap, but asked for", verbs: []string{oldKernel}, setting: "noswap", code: 1,
				refused: []string{"portcullis-node: --swap-protection: this kernel has no tmpfs option noswap; hint: use Linux 6.4 or later outside user namespaces, or --swap-protection=mlock\n"},
			},
			{name: "no noswap, mlock asked for", verbs: []string{oldKernel}, setting: "mlock", log: []string{locked, mlockChosen}},
		} {
			t.Run(tt.name, func(t *testing.T) { tt.run(t, binary) })
		}
	})
	t.Run("swap off", func(t *testing.T) {
		if areas, err := swapAreas(); err != nil || len(areas) > 0 {
			hardeningtest.Missing(t, fmt.Sprintf("needs a machine without swap of its own: run swapoff -a (%v, %v)", areas, err))
		}
		for _, tt := range []startCase{
			{name: "locking not permitted", verbs: []string{unlockable}, setting: "auto", log: []string{"dumpable=false memoryLocked=false", noswapChosen}},
			{
				name: "locking not permitted, mlock asked for", verbs: []string{unlockable}, setting: "mlock", code: 1,
				refused: []string{"portcullis-node: --swap-protection: memory cannot be locked (no CAP_IPC_LOCK and RLIMIT_MEMLOCK is 8388608); hint: grant CAP_IPC_LOCK, or raise RLIMIT_MEMLOCK to 128 MiB\n"},
			},
			{name: "no noswap, mlock not asked for", verbs: []string{oldKernel}, setting: "auto", log: []string{locked, mlockChosen}},
			{
				name: "no noswap, but asked for", verbs: []string{oldKernel}, setting: "noswap", code: 1,
				refused: []string{"portcullis-node: --swap-protection: this kernel has no tmpfs option noswap; hint: "},
			},
			{
				name: "neither noswap nor locking", verbs: []string{oldKernel, unlockable}, setting: "auto", code: 1,
				refused: []string{"portcullis-node: --swap-protection: memory cannot be locked (", "hint: grant CAP_IPC_LOCK"},
			},
			{
				name: "no such protection", setting: "none", code: 2,
				refused: []string{`portcullis-node: --swap-protection: unknown value "none"` + "\nhint: use auto, noswap or mlock\n"},
			},
		} {
			t.Run(tt.name, func(t *testing.T) { tt.run(t, binary) })
		}
	})
}

// run starts the plugin, stops it if it serves, and looks at what it said.
func (c startCase) run(t *testing.T, binary string) {
	if slices.Contains(c.log, noswapChosen) {
		hardeningtest.NeedKernel(t, 6, 4, "tmpfs noswap")
	}
	n := newPlugin(t, binary, t.TempDir(), "--swap-protection="+c.setting)
	n.start(t, born{}, c.verbs...)
	started := n.serves(t)
	if started {
		if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Errorf("stop: %v", err)
		}
	}
	n.await(t)
	if code := n.cmd.ProcessState.ExitCode(); started != (c.refused == nil) || code != c.code {
		t.Errorf("served %v, exit code %d, want %v, %d:\n%s", started, code, c.refused == nil, c.code, n.log())
	}
	for _, text := range append(c.refused, c.log...) {
		if !strings.Contains(n.log(), text) {
			t.Errorf("it says %q, want %q in it", n.log(), text)
		}
	}
}
