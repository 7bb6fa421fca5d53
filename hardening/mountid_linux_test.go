package hardening_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portcullis-csi/portcullis/hardening"
)

// TestScrubKnowsAMountThatTookOverItsID: mount ids are used again at once. Between
// a look at the table and the scrub somebody takes our volume off and binds a
// directory of the node in its place, which then goes by the same id.
func TestScrubKnowsAMountThatTookOverItsID(t *testing.T) {
	// Under mlock the mappings hold the mount, and with it its id.
	n := newNode(t, hardening.SettingNoswap)
	victim := t.TempDir()
	check(t, "write", os.WriteFile(filepath.Join(victim, "precious"), []byte("keep"), 0o600))
	v, target, dir := n.publish(t, "vol", grouped, valued("a", "1"))
	check(t, "close volume", v.Close())
	id := idOfMountAt(t, dir)
	var errs []error
	_, err := hardening.ScrubTop(target, func() {
		check(t, "unmount", unix.Unmount(dir, unix.MNT_DETACH))
		// An id becomes free a moment after the mount is gone.
		for range 5000 {
			check(t, "bind", unix.Mount(victim, dir, "", unix.MS_BIND, ""))
			if idOfMountAt(t, dir) == id {
				return
			}
			check(t, "unmount", unix.Unmount(dir, unix.MNT_DETACH))
			time.Sleep(time.Millisecond)
		}
		errs = append(errs, errors.New("no mount got the id of the one before: the attack did not take place"))
	})
	check(t, "ScrubTop()", errors.Join(append(errs, err)...))
	assertContent(t, filepath.Join(victim, "precious"), "keep")
	check(t, "unmount", unix.Unmount(dir, unix.MNT_DETACH))
	detach(t, target, hardening.Detached{})
}

// idOfMountAt returns the id of the only mount at a point.
func idOfMountAt(t testing.TB, point string) string {
	t.Helper()
	lines := mountLines(t, point)
	if len(lines) != 1 {
		t.Fatalf("mounts at %s = %q, want one", point, lines)
	}
	id, _, _ := strings.Cut(lines[0], " ")
	return id
}
