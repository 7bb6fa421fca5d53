// The race detector sees no more in dozens of rotations, one after the other,
// than in a few, and takes some twenty times as long.

//go:build !race

package driver_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
)

// TestP9PinnedGenerationsGrowAVolumeToItsCeiling: a reader keeps each old
// generation open. The volume grows as far as it may; beyond that the old
// content stays, kubelet hears OK, and it goes on once the reader lets go.
func TestP9PinnedGenerationsGrowAVolumeToItsCeiling(t *testing.T) {
	hold := func(t *testing.T, n *node, what string) *os.File {
		t.Helper()
		f, err := os.Open(filepath.Join(n.target(teamPod("team-a", 0)), what))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	tests := map[string]struct {
		what   string // the reader holds
		others int    // volumes of the same namespace
		scope  string // of the budget that ends it
		least  int    // rotations before
	}{
		"the volume's":        {"password", 0, "one volume", 8},
		"the namespace's":     {"password", 1, "namespace team-a", 2},
		"the volume's inodes": {"..data", 0, "", 20},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			bothProtections(t, func(t *testing.T, protection func(*setup)) {
				changing, now := counting(3)
				n := newNode(t, tight, protection, func(s *setup) {
					s.provider.Handler = byPod(providertest.Files(bytesOf(smallest, "x")), map[string]providertest.Handler{"team-a-0": changing})
					if tt.others > 0 {
						s.maxNode = 4 * (largest + largest/2)
					}
				})
				p, other := teamPod("team-a", 0), teamPod("team-a", 1)
				n.fleet(p, other)
				n.mustPublish(p)
				if tt.others > 0 {
					n.mustPublish(other)
				}
				if tt.what == "..data" { // for which 517 inodes would take a while
					if err := unix.Mount("", n.writable(p), "", unix.MS_REMOUNT, "nr_inodes=50"); err != nil {
						t.Fatal(err)
					}
				}
				var held []*os.File
				want, rotations := now(), 0
				for failures := 0; failures < 3 && rotations < 1000; {
					held = append(held, hold(t, n, tt.what))
					n.clock.advance(time.Hour)
					n.mustPublish(p)
					if got := n.content(p)["password"]; got == now() {
						rotations++
						want = got
					} else if failures++; got != want {
						t.Fatalf("content after a rotation that failed is not the old one: %.16q..., want %.16q...", got, want)
					}
					if size := n.sizes()[p.uid]; size > largest {
						t.Fatalf("the volume may fill %d bytes, want at most %d", size, largest)
					}
					n.expectBudget(1 + tt.others)
				}
				if rotations < tt.least || rotations >= 1000 {
					t.Errorf("%d rotations with every old generation held, want at least %d and an end", rotations, tt.least)
				}
				n.expectLast(p, "PC2002W complete BudgetExceeded")
				if log := n.stderr.String(); !strings.Contains(log, "the memory budget of "+tt.scope+" is used up") && tt.scope != "" {
					t.Errorf("the log does not name %q", tt.scope)
				}
				for i, f := range held {
					if tt.what == "password" {
						old := make([]byte, 8)
						if _, err := f.ReadAt(old, 0); err != nil || i < rotations && string(old) != fmt.Sprintf("%08d", i+1) {
							t.Errorf("a file of generation %d that was held reads %q, %v", i+1, old, err)
						}
					}
					n.closed(f.Close())
				}
				n.clock.advance(time.Hour)
				n.mustPublish(p)
				if got := n.content(p)["password"]; got != now() {
					t.Errorf("content after the reader let go = %.16q..., want %.16q...", got, now())
				}
				if size := n.sizes()[p.uid]; size != 2*4*page+page {
					t.Errorf("the volume may fill %d bytes after that, want two generations and a page", size)
				}
				n.expectBudget(1 + tt.others)
			})
		})
	}
}
