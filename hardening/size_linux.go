package hardening

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

var errNotAllowed = errors.New("volume may not grow")

// Allow sets how much content a volume may get, and whom to ask before it
// fills more of a tmpfs: reserve is called with the bytes that the volume needs
// in all, before the first one is written. Without it an attached volume keeps
// the size that two generations of its content need.
func (v *Volume) Allow(content int64, reserve func(total int64) error) {
	v.limits.Bytes = min(max(content, 0), maxVolumeBytes)
	v.reserve = reserve
}

// Hurry ends the time for readers on their way into an old generation once done
// is closed: an unpublish must not wait for it.
func (v *Volume) Hurry(done <-chan struct{}) { v.hurry = done }

// fit gives a volume the size that it needs: what is in it, as much again for
// the generation that will take its place, and a page. What a node has promised
// to its volumes is then what they really hold.
func (v *Volume) fit(next int64) error {
	stats, err := v.Stats()
	if err != nil {
		return err
	}
	size := stats.BytesUsed + next + int64(os.Getpagesize())
	// Old generations that somebody keeps open must not carry the volume beyond
	// what is allowed, a page with each rotation.
	grows := v.phase == phaseAttached && size > stats.BytesTotal
	if allowed := !grows || v.ask(size) == nil; !allowed {
		return nil
	}
	return resize(v.root, size)
}

// shrink gives back what a volume was enlarged by for old generations that
// nobody keeps open any more.
func (v *Volume) shrink(next int64) error {
	stats, err := v.Stats()
	if err != nil {
		return err
	}
	if size := stats.BytesUsed + next + int64(os.Getpagesize()); size < stats.BytesTotal {
		return resize(v.root, size)
	}
	return nil
}

// makeRoom enlarges the volume for a generation beside all that it holds, also
// old ones that somebody keeps open. Beyond what is allowed the old content
// stays. The size that is set now is no answer: a privileged container can have
// set it. Inodes have a bound of their own: a directory that is held open takes
// one and no bytes.
func (v *Volume) makeRoom(plan layout) error {
	const remedy = "restart the pod, whose containers hold old generations open"
	stats, err := v.Stats()
	if err != nil {
		return err
	}
	if n := plan.newInodes(); stats.InodesTotal > 0 && n > stats.InodesAvailable {
		return &LimitError{Field: "volume inodes", Got: stats.InodesUsed + n, Max: stats.InodesTotal, Remedy: remedy}
	}
	need := stats.BytesUsed + plan.pageBytes()
	if v.reserve == nil && need <= stats.BytesTotal {
		return nil
	}
	if err := v.ask(need); err != nil {
		return &LimitError{
			Field: "volume size", Got: need, Max: stats.BytesTotal, Remedy: remedy + ", or raise --max-node-bytes",
		}
	}
	if need <= stats.BytesTotal {
		return nil
	}
	return resize(v.root, need)
}

func (v *Volume) ask(total int64) error {
	if v.reserve == nil {
		return errNotAllowed
	}
	return v.reserve(total)
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
