package hardening_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/hardening"
)

// attack runs a privileged container that changes the volume as fast as it
// can, until the returned function is called, which says how often it did.
func attack(t *testing.T, evil string, step func(evil string, i int) error) (stop func() int64) {
	t.Helper()
	done := make(chan struct{})
	var hits atomic.Int64
	var attacker sync.WaitGroup
	attacker.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			if step(evil, i) == nil {
				hits.Add(1)
			}
		}
	})
	return func() int64 {
		close(done)
		attacker.Wait()
		return hits.Load()
	}
}

// attacks are what a container with CAP_SYS_ADMIN can do while the driver
// works in the same superblock.
func attacks(outside string) map[string]func(evil string, i int) error {
	return map[string]func(evil string, i int) error{
		"..data led out": func(evil string, i int) error {
			next := fmt.Sprintf("%s/..evil%d", evil, i)
			return joined(os.Symlink(outside, next), os.Rename(next, evil+"/..data"))
		},
		"a name led out": func(evil string, i int) error {
			next := fmt.Sprintf("%s/..evil%d", evil, i)
			return joined(os.Symlink(outside+"/precious", next), os.Rename(next, evil+"/a"))
		},
		"entries exchanged": func(evil string, _ int) error {
			_ = os.Mkdir(evil+"/dir", 0o777)
			_ = os.Symlink(outside, evil+"/link")
			return unix.Renameat2(unix.AT_FDCWD, evil+"/dir", unix.AT_FDCWD, evil+"/link", unix.RENAME_EXCHANGE)
		},
		"generation taken apart": func(evil string, _ int) error {
			dir, err := filepath.EvalSymlinks(evil + "/..data")
			if err != nil {
				return err
			}
			_ = unix.Mkfifo(dir+"/fifo", 0o666)
			_ = os.Symlink(outside, dir+"/link")
			return os.Rename(dir+"/a", dir+"/moved")
		},
	}
}

// TestReplaceUnderAttack rotates while the volume is being changed. It may
// fail, but must not hang, must not leave the volume, and must come to rest.
func TestReplaceUnderAttack(t *testing.T) {
	const rotations, collisions = 200, 10
	outside := t.TempDir()
	for name, step := range attacks(outside) {
		t.Run(name, func(t *testing.T) {
			eachProtection(t, func(t *testing.T, n *node) {
				precious := outside + "/precious"
				check(t, "write", os.WriteFile(precious, []byte("keep"), 0o644))
				v, target, dir := n.publish(t, "vol", grouped, valued("a", "0"))
				stop := attack(t, privileged(t, dir), step)
				within(t, 10*patience, "200 rotations", func() {
					for i := range rotations {
						_, _ = v.Replace([]hardening.File{valued("a", fmt.Sprint(i))}) // failing is no harm
					}
				})
				if hits := stop(); hits < collisions {
					t.Errorf("%d attacks, want at least %d: no race, no proof", hits, collisions)
				}
				v.Allow(1<<20, hardening.UpTo(4<<20))
				if changed, err := v.Replace([]hardening.File{valued("a", "last")}); !changed || err != nil {
					t.Errorf("Replace() after the attack = %v, %v, want true, nil", changed, err)
				}
				assertContent(t, dir+"/a", "last")
				assertUntouched(t, precious)
				detach(t, target, hardening.Detached{Ours: 1})
			})
		})
	}
}

// TestP8DetachUnderAttack takes volumes off while they are being changed: it
// must end with the mount gone, whatever could not be removed in time.
func TestP8DetachUnderAttack(t *testing.T) {
	const volumes = 20
	outside := t.TempDir()
	for name, step := range attacks(outside) {
		t.Run(name, func(t *testing.T) {
			eachProtection(t, func(t *testing.T, n *node) {
				precious := outside + "/precious"
				check(t, "write", os.WriteFile(precious, []byte("keep"), 0o644))
				for i := range volumes {
					_, target, dir := n.publish(t, fmt.Sprintf("vol-%d", i), grouped, valued("a", "0"), valued("d/b", "0"))
					stop := attack(t, privileged(t, dir), step)
					within(t, patience, "Detach", func() {
						if d, err := target.Detach(); err != nil || d.Ours != 1 {
							t.Errorf("Detach() = %+v, %v, want our mount gone", d, err)
						}
					})
					stop()
					assertState(t, target, hardening.StateAbsent)
				}
				assertUntouched(t, precious)
			})
		})
	}
}

func assertUntouched(t *testing.T, precious string) {
	t.Helper()
	assertContent(t, precious, "keep")
	info, err := os.Stat(precious)
	if err != nil || info.Mode() != 0o644 {
		t.Errorf("Stat(file outside) = %v, %v, want mode 0644", info, err)
	}
	entries, err := os.ReadDir(filepath.Dir(precious))
	if err != nil || len(entries) != 1 {
		t.Errorf("ReadDir(directory outside) = %v, %v, want one file", entries, err)
	}
}
