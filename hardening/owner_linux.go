package hardening

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// ownerName is the attribute of a volume's root that says for which target it
// was made. The mount table shows no more than that a volume is ours: whoever
// exchanges two directories of pods, or binds the volume of one over the target
// of another, would have one pod's secrets written where the other reads. To
// change a name that begins with security. takes CAP_SYS_ADMIN in the user
// namespace that made the file system (xattr(7)): unlike trusted. it serves in
// a user namespace too. The attribute only ever takes the name of ours away: a
// mount that the table does not show as ours is never asked.
const ownerName = "security.portcullis.target"

// owner says for which target a volume of ours was made.
type owner int

const (
	ownerUnknown owner = iota // nobody attached it, or somebody took the attribute away
	ownerHere
	ownerElsewhere
)

// claim writes into a volume for which target it is.
func claim(root *descriptor, key string) error {
	if err := unix.Setxattr(root.procPath(), ownerName, []byte(key), 0); err != nil {
		return fmt.Errorf("write target of volume: %w", err)
	}
	return nil
}

// ownerOf compares what claim wrote.
func ownerOf(root *descriptor, key string) (owner, error) {
	buf := make([]byte, len(key)+1) // what is longer is another's
	n, err := unix.Getxattr(root.procPath(), ownerName, buf)
	switch {
	case errors.Is(err, unix.ENODATA):
		return ownerUnknown, nil
	case errors.Is(err, unix.ERANGE):
		return ownerElsewhere, nil
	case err != nil:
		return ownerUnknown, fmt.Errorf("read target of volume: %w", err)
	case string(buf[:n]) != key:
		return ownerElsewhere, nil
	}
	return ownerHere, nil
}

// owner says whose the mount on top is, if it is one of ours at all.
func (t *Target) owner(top mountLine) (owner, error) {
	if !top.ours() {
		return ownerElsewhere, nil
	}
	root, err := t.openMount(top)
	if err != nil {
		return ownerUnknown, err
	}
	defer func() { _ = root.Close() }()
	return ownerOf(root, t.key())
}
