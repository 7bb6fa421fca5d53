package hardening

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Allow lets an attached volume grow while it rotates: to content of so many
// bytes, and to a tmpfs of so many bytes in all. Without it the volume keeps
// the size that two generations of its content need.
func (v *Volume) Allow(content, total int64) {
	v.limits.Bytes = min(max(content, 0), maxVolumeBytes)
	v.most = total
}

// fit gives the volume the size that it needs: what is in it, as much again
// for the generation that will take its place, and a page. What a node has
// promised to its volumes is then what they really hold.
func (v *Volume) fit(next int64) error {
	stats, err := v.Stats()
	if err != nil {
		return err
	}
	size := stats.BytesUsed + next + int64(os.Getpagesize())
	if v.phase == phaseAttached {
		// Old generations that somebody keeps open must not carry the volume
		// beyond what is allowed, a page with each rotation.
		size = min(size, max(v.most, stats.BytesTotal))
	}
	return resize(v.root, size)
}

// makeRoom enlarges the volume for a generation beside all that it holds, also
// old ones that somebody keeps open. Beyond what is allowed the old content
// stays.
func (v *Volume) makeRoom(next int64) error {
	stats, err := v.Stats()
	if err != nil {
		return err
	}
	need := stats.BytesUsed + next
	if need <= stats.BytesTotal {
		return nil
	}
	if need > v.most {
		return &LimitError{
			Field: "volume size", Got: need, Max: max(v.most, stats.BytesTotal),
			Remedy: "restart the pod, whose containers hold old generations open, or raise --max-node-bytes",
		}
	}
	return resize(v.root, need)
}

// resize sets size= of the superblock under root; flags of mounts are not
// touched, unlike by mount(2) with MS_REMOUNT.
func resize(root *descriptor, bytes int64) error {
	fs, err := newDescriptor(unix.Fspick(root.fd(), "", unix.FSPICK_CLOEXEC|unix.FSPICK_EMPTY_PATH))
	if err != nil {
		return fmt.Errorf("pick volume: %w", err)
	}
	defer func() { _ = fs.Close() }()
	if err := unix.FsconfigSetString(fs.fd(), "size", strconv.FormatInt(bytes, 10)); err != nil {
		return fmt.Errorf("set size of volume%s: %w", kernelMessage(fs), err)
	}
	if err := unix.FsconfigReconfigure(fs.fd()); err != nil {
		return fmt.Errorf("resize volume%s: %w", kernelMessage(fs), err)
	}
	return nil
}
