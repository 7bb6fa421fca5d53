package hardening_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/hardening"
)

// beneath is the mount directory as a process sees it whose mount namespace
// lacks the volume: a bind that does not take along what is mounted below.
func beneath(t testing.TB, dir string) string {
	t.Helper()
	return filepath.Join(bindOf(t, filepath.Dir(dir)), filepath.Base(dir))
}

// TestP5WhatIsWrittenBeneathAVolumeIsFound: the volume hides it from every
// look by path, and it is on the node's disk.
func TestP5WhatIsWrittenBeneathAVolumeIsFound(t *testing.T) {
	eachProtection(t, func(t *testing.T, n *node) {
		_, target, dir := n.publish(t, "vol", grouped, valued("a", "1"))
		if found, err := target.ScrubBeneath(); found != 0 || err != nil {
			t.Errorf("ScrubBeneath() of a volume that nobody touched = %d, %v, want 0, nil", found, err)
		}
		plain, before := beneath(t, dir), sameMount(t, dir)
		check(t, "plant", joined(
			os.WriteFile(plain+"/a", []byte("plaintext"), 0o644),
			os.MkdirAll(plain+"/d/e", 0o700),
			os.WriteFile(plain+"/d/e/f", []byte("plaintext"), 0o400),
			os.Symlink("/etc/passwd", plain+"/link"),
			unix.Mkfifo(plain+"/fifo", 0o600),
		))
		if found, err := target.ScrubPlain(); !errors.Is(err, hardening.ErrMounted) {
			t.Errorf("ScrubPlain() = %d, %v, want %v: it must not look beneath by itself", found, err, hardening.ErrMounted)
		}
		if found, err := target.ScrubBeneath(); found != 4 || err != nil {
			t.Errorf("ScrubBeneath() = %d, %v, want 4, nil", found, err)
		}
		if left, err := os.ReadDir(plain); err != nil || len(left) != 0 {
			t.Errorf("ReadDir(beneath) = %v, %v, want nothing", left, err)
		}
		assertContent(t, dir+"/a", "1")
		if after := sameMount(t, dir); len(after) != 1 || after[0] != before[0] {
			t.Errorf("mount table = %q, want %q as before", after, before)
		}
		assertState(t, target, hardening.StateOurs)
		detach(t, target, hardening.Detached{Ours: 1})
		assertAbsent(t, dir)
	})
}

func TestDetachFindsWhatIsBeneath(t *testing.T) {
	n := newNode(t, hardening.SettingMlock)
	_, target, dir := n.publish(t, "vol", grouped, valued("a", "1"))
	check(t, "plant", os.WriteFile(beneath(t, dir)+"/a", []byte("plaintext"), 0o644))
	detach(t, target, hardening.Detached{Ours: 1, Plain: 1})
	assertAbsent(t, dir)
}

// TestScrubPlainTakesAwayWhatIsInPlaceOfTheDirectory: a file of that name is
// what a provider leaves that takes the target for a file.
func TestScrubPlainTakesAwayWhatIsInPlaceOfTheDirectory(t *testing.T) {
	n := newNode(t, hardening.SettingMlock)
	precious := filepath.Join(n.root, "precious")
	check(t, "write", os.WriteFile(precious, []byte("keep"), 0o644))
	plants := map[string]func(dir string) error{
		"file":      func(dir string) error { return os.WriteFile(dir, []byte("plaintext"), 0o644) },
		"link":      func(dir string) error { return os.Symlink(precious, dir) },
		"hard link": func(dir string) error { return os.Link(precious, dir) },
		"FIFO":      func(dir string) error { return unix.Mkfifo(dir, 0o600) },
	}
	for name, plant := range plants {
		t.Run(name, func(t *testing.T) {
			target, dir := n.place(t, "vol")
			check(t, "plant", joined(os.Remove(dir), plant(dir)))
			found, err := target.ScrubPlain()
			if link := name == "link"; found != 1 && !link || errors.Is(err, hardening.ErrNotDirectory) != link || err != nil && !link {
				t.Errorf("ScrubPlain() = %d, %v, want 1, nil, or %v of a link", found, err, hardening.ErrNotDirectory)
			}
			assertAbsent(t, dir)
			assertContent(t, precious, "keep")
		})
	}
	target, _ := n.place(t, "vol")
	assertState(t, target, hardening.StateEmpty)
}
