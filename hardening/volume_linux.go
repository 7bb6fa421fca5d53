package hardening

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// NewVolume makes a detached volume: nobody sees it until Attach, and it is
// gone with Close or with the process.
func (s *System) NewVolume(l Limits) (*Volume, error) {
	if s.pods.fd() < 0 {
		return nil, ErrClosed
	}
	if err := l.Validate(); err != nil {
		return nil, err
	}
	noswap := s.protection == ProtectionNoswap
	root, err := newTmpfs(tmpfsConfig{limits: l, noswap: noswap, context: s.context})
	if err != nil {
		return nil, fmt.Errorf("make volume: %w", err)
	}
	return &Volume{sys: s, root: root, limits: l, lock: !noswap, held: &lockSet{}, phase: phaseDetached}, nil
}

// Fill writes all files into a detached volume, or none. It is called once;
// after an error it may be called again. The caller wipes the plaintexts.
func (v *Volume) Fill(files []File) error {
	if v.phase != phaseDetached {
		return ErrFilled
	}
	plan, err := newLayout(files, v.limits)
	if err != nil {
		return err
	}
	if v.reserve != nil {
		if err := v.reserve(2*plan.pageBytes() + int64(os.Getpagesize())); err != nil {
			return fmt.Errorf("fill volume: %w", err)
		}
	}
	gen, err := writeGeneration(v.root, plan, v.lock)
	if err == nil {
		defer gen.close()
		err = gen.publish(v.root, plan.names)
	}
	if err != nil {
		left := scrubber{truncate: true}
		left.empty(v.root)
		return errors.Join(fmt.Errorf("fill volume: %w", err), gen.drop(), left.err())
	}
	v.phase = phaseFilled
	return v.held.swap(gen.maps)
}

// Attach seals a filled volume read-only and moves it onto the empty target in
// one step. The mappings of mlock mode pass to the System. If the directory is
// no longer where the kubelet made it, the volume is taken off again and the
// error is ErrChanging.
func (v *Volume) Attach(t *Target) error {
	switch v.phase {
	case phaseNone, phaseDetached:
		return ErrNotFilled
	case phaseAttached:
		return ErrFilled
	case phaseFilled:
	}
	place, err := t.emptyDir()
	if err != nil {
		return fmt.Errorf("attach volume: %w", vanished(err))
	}
	defer func() { _ = place.Close() }()
	stats, err := v.Stats()
	if err != nil {
		return err
	}
	if err := v.fit(stats.BytesUsed); err != nil {
		return err
	}
	FaultPoint("attach/fitted")
	if err := claim(v.root, t.key()); err != nil {
		return err
	}
	FaultPoint("attach/claimed")
	if err := seal(v.root); err != nil {
		return err
	}
	FaultPoint("attach/sealed")
	if v.lock {
		// Before the move, so that nothing can fail once the volume is there.
		if err := v.sys.adopt(t.key(), v.held); err != nil {
			return err
		}
		FaultPoint("attach/locks-adopted")
	}
	// Both ends are descriptors: a path would be looked up again, and could
	// by then lead elsewhere (CVE-2021-25741 is that race in the kubelet).
	const flags = unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_EMPTY_PATH
	if err := unix.MoveMount(v.root.fd(), "", place.fd(), "", flags); err != nil {
		return fmt.Errorf("attach volume: %w", vanished(err))
	}
	if err := t.landed(v.root); err != nil {
		v.phase = phaseNone
		return errors.Join(fmt.Errorf("attach volume: %w", err), withdraw(v.root), v.sys.disown(t.key(), v.held))
	}
	FaultPoint("attach/moved")
	v.phase = phaseAttached
	return nil
}

// Scrub removes every file of an attached volume, content first, and leaves
// the mount: a revocation. Readers see ENOENT, open files become empty. What
// could not be removed is a *ScrubError.
func (v *Volume) Scrub() error {
	if v.phase != phaseAttached {
		return ErrNotAttached
	}
	view, err := writableView(v.root)
	if err != nil {
		return fmt.Errorf("scrub volume: %w", err)
	}
	return errors.Join(scrubWithin(view, scrubber{truncate: true, patient: true}), v.held.release())
}

// Empty reports whether the volume shows no content, as after a Scrub and
// already while one is cut off. It reads nothing, so that nobody can hold it up
// (fanotify(7)).
func (v *Volume) Empty() bool {
	name, err := readLink(v.root, dataName)
	if err == nil {
		var d *descriptor
		d, err = openAt(v.root, name, openPath, resolveInside)
		_ = d.Close()
	}
	return v.phase == phaseAttached && errors.Is(err, unix.ENOENT)
}

// Stats returns the space and the inodes of the volume.
func (v *Volume) Stats() (Stats, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(v.root.fd(), &st); err != nil {
		return Stats{}, fmt.Errorf("read volume stats: %w", err)
	}
	block := uint64(max(st.Bsize, 1))
	return Stats{
		BytesTotal: signed(st.Blocks * block), BytesUsed: signed((st.Blocks - min(st.Bfree, st.Blocks)) * block), BytesAvailable: signed(st.Bavail * block),
		InodesTotal: signed(st.Files), InodesUsed: signed(st.Files - min(st.Ffree, st.Files)), InodesAvailable: signed(st.Ffree),
	}, nil
}

// signed bounds a kernel counter, which a privileged container's remount can
// make as large as it likes.
func signed(n uint64) int64 { return int64(min(n, 1<<62)) }

// Files lists the delivered files with the owners and modes that they really
// have, sorted by path.
func (v *Volume) Files() ([]FileInfo, error) {
	list, gen, err := v.generation()
	if err != nil {
		return nil, err
	}
	var files []FileInfo
	for _, f := range list {
		if f.Mode.IsRegular() {
			files = append(files, f)
		}
	}
	return files, gen.Close()
}

// Close drops the descriptors. A volume that is not attached vanishes.
func (v *Volume) Close() error {
	var err error
	if v.phase != phaseAttached && v.held != nil {
		err = v.held.release()
	}
	return errors.Join(err, v.root.Close())
}
