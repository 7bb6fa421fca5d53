package hardening

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

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
