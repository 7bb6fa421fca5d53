package hardening

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// volumeData is what the kubelet keeps beside a volume from before the first
// publish until after the unpublish.
const volumeData = "vol_data.json"

// KubeletKnows reports whether the kubelet keeps its note of this volume, and
// so will unpublish it.
func (t *Target) KubeletKnows() (bool, error) {
	var st unix.Stat_t
	err := unix.Fstatat(t.dir.fd(), volumeData, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.ENOENT):
		return false, nil
	}
	return false, fmt.Errorf("look for %s: %w", volumeData, err)
}

// Held reports whether a process of the node has the volume mounted at another
// place than this target, as the containers of a pod do. It is an error if that
// cannot be known.
func (t *Target) Held() (bool, error) {
	if err := t.sys.SeesNode(); err != nil {
		return false, err
	}
	stack, _, err := t.stack()
	if err != nil {
		return false, err
	}
	if len(stack) != 1 || !stack[0].ours() {
		return false, ErrNotOurs
	}
	processes, err := os.ReadDir(t.sys.proc)
	if err != nil {
		return false, fmt.Errorf("list processes: %w", err)
	}
	for _, p := range processes {
		if _, err := strconv.Atoi(p.Name()); err != nil {
			continue
		}
		held, err := t.heldBy(path.Join(t.sys.proc, p.Name(), "mountinfo"), stack[0].device)
		if held || err != nil {
			return held, err
		}
	}
	return false, nil
}

// heldBy looks through the mounts that one process sees. Those that mirror the
// kubelet's directories, as the host's own processes and the likes of a node
// exporter do, follow the target when it is unmounted.
func (t *Target) heldBy(mountinfo, device string) (bool, error) {
	f, err := os.Open(mountinfo) //nolint:gosec // G304: a process of the table that the operator named
	if err == nil {
		defer func() { _ = f.Close() }()
		var held bool
		held, err = t.heldIn(f, device)
		if held {
			return true, nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return false, nil // it has ended
	}
	if err != nil {
		return false, fmt.Errorf("read mounts of a process: %w", err)
	}
	return false, nil
}

// maxOwnLine is more than a line about a volume of ours has: two paths, each byte
// of which the kernel may write as four.
const maxOwnLine = 64 << 10

// heldIn reads a mount table line by line: whoever may make a user namespace can
// have one of hundreds of megabytes in it.
func (t *Target) heldIn(table io.Reader, device string) (bool, error) {
	mirror := "/" + path.Join(podsName, t.podUID, csiVolumes, t.volume, mountName)
	lines := bufio.NewReaderSize(table, maxOwnLine)
	for cut := false; ; {
		line, err := lines.ReadSlice('\n')
		if whole := err == nil && !cut; whole && bytes.Contains(line, []byte(" "+device+" ")) {
			m, err := parseMountLine(strings.TrimSuffix(string(line), "\n"))
			if err != nil {
				return false, err
			}
			if m.device == device && (m.root != "/" || !strings.HasSuffix(m.point, mirror)) {
				return true, nil
			}
		}
		cut = errors.Is(err, bufio.ErrBufferFull) // the rest of a line that is about something else
		switch {
		case errors.Is(err, io.EOF):
			return false, nil
		case err != nil && !cut:
			return false, err
		}
	}
}

// DetachIdle removes a volume of ours that nobody uses, and the mount directory.
// The kernel decides on use: it is ErrBusy, with nothing touched, while a file
// or directory of the volume is open through this mount or one that mirrors it.
// Once Ours is counted the volume is gone, whatever the error is about.
func (t *Target) DetachIdle() (Detached, error) {
	var d Detached
	view, err := t.cloneIdle()
	if err != nil {
		return d, fmt.Errorf("detach idle volume: %w", err)
	}
	err = unix.Unmount(t.dir.procPath()+"/"+mountName, unix.UMOUNT_NOFOLLOW)
	if err != nil {
		if errors.Is(err, unix.EBUSY) {
			err = ErrBusy
		}
		return d, errors.Join(fmt.Errorf("detach idle volume: %w", err), view.Close())
	}
	// The volume lives on in the view alone, unless somebody has just taken
	// hold of it: then what they hold is emptied.
	d.Ours++
	d.scrub(view)
	return d, errors.Join(view.Close(), t.sys.unlockTarget(t.key()), t.removeDir(&d))
}

// cloneIdle returns a view that keeps the volume alive without keeping its mount
// busy. Mappings that lock its pages move to the view, for the same reason.
func (t *Target) cloneIdle() (*descriptor, error) {
	v, err := t.OpenVolume()
	if err != nil {
		return nil, err
	}
	defer func() { _ = v.Close() }()
	view, err := cloneVolume(v.root)
	if err != nil || !v.lock {
		return view, err
	}
	moved := &Volume{sys: v.sys, root: view, lock: true, held: v.held, phase: phaseAttached}
	// What cannot be locked again, such as a file that somebody made huge, is
	// unlocked for the moment that is left to it.
	_, err = inTime(moved.relock, func(int) { _ = view.Close() })
	if errors.Is(err, errBlocked) {
		return nil, err
	}
	return view, nil
}

// SeesNode returns why the process table that was given does not show the whole
// node, so that Held has no answer; nil if it does. Only the first pid namespace
// has the kernel's own threads.
func (s *System) SeesNode() error {
	name, err := os.ReadFile(path.Join(s.proc, "2", "comm"))
	if err != nil || strings.TrimSpace(string(name)) != "kthreadd" {
		return &ConfigError{
			Field: "--host-proc", Reason: quote(s.proc) + " does not show the processes of the node",
			Remedy: "mount the node's /proc into the container and name it, or set hostPID: true",
		}
	}
	return nil
}
