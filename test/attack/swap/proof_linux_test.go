//go:build attack

package swap_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// proof is one run: canaries, memory that the kernel is made to reclaim, and a
// swap file in which they are looked for.
type proof struct {
	group *cgroup
	area  *swapArea
	rows  []row
}

// row is one canary with what is known about where it may be found.
type row struct {
	name   string
	canary []byte
	least  int // pages that must be found; 0: none may be
}

func newProof(t *testing.T) *proof {
	t.Helper()
	hardeningtest.NeedRoot(t)
	// This process knows the canaries. It is in no cgroup that is squeezed, but
	// swap is on for all.
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		hardeningtest.Missing(t, "needs CAP_IPC_LOCK: "+err.Error())
	}
	t.Cleanup(func() {
		if err := unix.Munlockall(); err != nil {
			t.Errorf("munlockall: %v", err)
		}
	})
	keeper := startKeeper(t)
	return &proof{area: newSwapArea(t, keeper), group: newCgroup(t, keeper)}
}

// safe returns a canary that must not be found.
func (p *proof) safe(name string) string { return p.add(row{name: name}) }

// control returns a canary that must be found, in at least half of its pages:
// without that the pressure was too weak, and that nothing else was found says
// nothing.
func (p *proof) control(name string) string {
	return p.add(row{name: name, least: canaryPages / 2})
}

func (p *proof) add(r row) string {
	r.canary = newCanary()
	p.rows = append(p.rows, r)
	return string(r.canary)
}

// press has the kernel write to swap what it may: asked for by the children
// page by page, then cgroup-wide. Either alone leaves some pages on the active
// list. The second round finds what the first left there.
func (p *proof) press(t *testing.T, pagers ...*child) {
	t.Helper()
	p.area.on(t)
	for range 2 {
		for _, c := range pagers {
			if said := c.ask(t, "pageout"); said != "" {
				t.Logf("page out in %s: %s", c.name, said)
			}
		}
		p.group.squeeze(t)
	}
	p.area.off(t)
}

// verdict looks for the canaries.
func (p *proof) verdict(t *testing.T) {
	t.Helper()
	var canaries [][]byte
	for _, r := range p.rows {
		canaries = append(canaries, r.canary)
	}
	for i, n := range p.area.count(t, canaries) {
		r := p.rows[i]
		t.Logf("%5d pages in the swap file: %s", n, r.name)
		switch {
		case r.least == 0 && n > 0:
			t.Errorf("%d pages of %q reached the swap file, want none", n, r.name)
		case n < r.least:
			t.Errorf("%d pages of the control %q reached the swap file, want at least %d: inconclusive", n, r.name, r.least)
		}
	}
}
