package hardening

import (
	"crypto/rand"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// publish makes the links of the volume and then points ..data at g, which is
// the one step that readers notice.
func (g *generation) publish(root *descriptor, names []string) error {
	for _, name := range names {
		if err := link(root, name); err != nil {
			return err
		}
		FaultPoint("generation/name-linked")
	}
	next := dataName + "." + rand.Text()
	if err := unix.Symlinkat(g.name, root.fd(), next); err != nil {
		return fmt.Errorf("link generation: %w", err)
	}
	FaultPoint("generation/next-linked")
	err := unix.Renameat(root.fd(), next, root.fd(), dataName)
	if errors.Is(err, unix.EISDIR) {
		// A privileged container put a directory in place of the link.
		err = unix.Renameat2(root.fd(), next, root.fd(), dataName, unix.RENAME_EXCHANGE)
	}
	if err != nil {
		return fmt.Errorf("switch generation: %w", err)
	}
	FaultPoint("generation/switched")
	return nil
}

// link makes the link of a name unless it is there. Anything else under the
// name was planted, and makes way.
func link(root *descriptor, name string) error {
	if have, err := readLink(root, name); err == nil && have == linkTarget(name) {
		return nil
	}
	err := unix.Symlinkat(linkTarget(name), root.fd(), name)
	if errors.Is(err, unix.EEXIST) {
		s := scrubber{}
		s.remove(root, name, maxScrubDepth)
		err = unix.Symlinkat(linkTarget(name), root.fd(), name)
	}
	if err != nil {
		return fmt.Errorf("link %+q: %w", name, err)
	}
	return nil
}
