package hardening

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// NewVolume makes a detached volume: nobody sees it until Attach, and it is
// gone with Close or with the process.
func (s *System) NewVolume(l Limits) (*Volume, error) {
	if s.pods.fd() < 0 {
		return nil, ErrClosed
	}
	if err := l.validate(); err != nil {
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
// one step. The mappings of mlock mode pass to the System.
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
		return fmt.Errorf("attach volume: %w", err)
	}
	defer func() { _ = place.Close() }()
	stats, err := v.Stats()
	if err != nil {
		return err
	}
	if err := v.fit(stats.BytesUsed); err != nil {
		return err
	}
	if err := seal(v.root); err != nil {
		return err
	}
	if v.lock {
		// Before the move, so that nothing can fail once the volume is there.
		if err := v.sys.adopt(t.key(), v.held); err != nil {
			return err
		}
	}
	// Both ends are descriptors: a path would be looked up again, and could
	// by then lead elsewhere (CVE-2021-25741 is that race in the kubelet).
	const flags = unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_EMPTY_PATH
	if err := unix.MoveMount(v.root.fd(), "", place.fd(), "", flags); err != nil {
		return fmt.Errorf("attach volume: %w", err)
	}
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
	return errors.Join(scrubWithin(view, scrubTimeout), v.held.release())
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

// generation opens the current generation and lists it. It is fs.ErrNotExist
// after a Scrub.
func (v *Volume) generation() (list []FileInfo, gen *descriptor, err error) {
	name, err := readLink(v.root, dataName)
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", dataName, err)
	}
	gen, err = openAt(v.root, name, openDir, resolveInside)
	if err != nil {
		return nil, nil, fmt.Errorf("open generation: %w", err)
	}
	list, err = listTree(gen)
	if err != nil {
		return nil, nil, errors.Join(err, gen.Close())
	}
	return list, gen, nil
}

func readLink(dir *descriptor, name string) (string, error) {
	buf := make([]byte, maxPath)
	n, err := unix.Readlinkat(dir.fd(), name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// listTree lists everything below dir, sorted by path. A tree deeper or larger
// than any we write is an error.
func listTree(dir *descriptor) ([]FileInfo, error) {
	l := lister{left: maxVolumeInodes}
	if err := l.list(dir, "", maxDepth); err != nil {
		return nil, fmt.Errorf("list generation: %w", err)
	}
	sortInfos(l.found)
	return l.found, nil
}

type lister struct {
	found []FileInfo
	left  int
}

func (l *lister) list(dir *descriptor, prefix string, depth int) error {
	names, err := dir.names()
	if err != nil {
		return err
	}
	if l.left -= len(names); l.left < 0 || depth == 0 {
		return errors.New("more entries than a volume can have")
	}
	for _, name := range names {
		if err := l.entry(dir, prefix, name, depth); err != nil {
			return err
		}
	}
	return nil
}

func (l *lister) entry(dir *descriptor, prefix, name string, depth int) error {
	d, err := openAt(dir, name, openPath, resolveInside)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	st, err := d.stat()
	if err != nil {
		return err
	}
	info := infoOf(st)
	info.Path = prefix + name
	l.found = append(l.found, info)
	if !info.Mode.IsDir() {
		return nil
	}
	sub, err := d.reopen(openDir)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Close() }()
	return l.list(sub, info.Path+"/", depth-1)
}

func infoOf(st unix.Stat_t) FileInfo {
	info := FileInfo{UID: int(st.Uid), GID: int(st.Gid), Mode: fs.FileMode(st.Mode & 0o777)}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		info.Size = st.Size
	case unix.S_IFDIR:
		info.Mode |= fs.ModeDir
	default:
		info.Mode |= fs.ModeIrregular
	}
	if st.Mode&0o7000 != 0 {
		info.Mode |= fs.ModeSetuid // whatever of the three it is, it is not ours
	}
	return info
}

// openRegular opens a file for reading without ever blocking on it.
func openRegular(dir *descriptor, name string) (*descriptor, error) {
	d, err := openAt(dir, name, openPath, resolveInside)
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	st, err := d.stat()
	if err != nil {
		return nil, err
	}
	if !isKind(st, unix.S_IFREG) {
		return nil, errors.New("not a regular file")
	}
	return d.reopen(openRead)
}
