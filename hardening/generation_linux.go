package hardening

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"golang.org/x/sys/unix"
)

// generation is one directory of files, named so that nobody can plant
// something under its name beforehand.
type generation struct {
	name string
	dir  *descriptor
	maps [][]byte
	lock bool
}

// writeGeneration writes all files of plan into a new directory below root.
// Nothing leads there yet, and until it is complete only root may enter: the
// superblock may be a pod's already.
func writeGeneration(root *descriptor, plan layout, lock bool) (*generation, error) {
	g := &generation{
		// The date is what users of Kubernetes volumes expect to see.
		name: reservedStart + time.Now().UTC().Format("2006_01_02_15_04_05") + "." + rand.Text(),
		lock: lock,
	}
	dir, err := makeDir(root, g.name)
	if err != nil {
		return g, err
	}
	g.dir = dir
	for _, d := range plan.dirs {
		if err := g.subdir(d); err != nil {
			return g, err
		}
	}
	for _, f := range plan.files {
		if err := g.write(f, plan.gid); err != nil {
			return g, fmt.Errorf("write %+q: %w", f.Path, err)
		}
	}
	return g, g.open(plan)
}

func makeDir(parent *descriptor, name string) (*descriptor, error) {
	if err := unix.Mkdirat(parent.fd(), name, uint32(modeWhileFilled)); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	FaultPoint("generation/directory-made")
	dir, err := openAt(parent, name, openDir, resolveInside)
	if err != nil {
		return nil, fmt.Errorf("open directory: %w", err)
	}
	return dir, nil
}

func (g *generation) subdir(name string) error {
	parent, err := openAt(g.dir, path.Dir(name), openDir, resolveInside)
	if err != nil {
		return fmt.Errorf("open directory %+q: %w", path.Dir(name), err)
	}
	defer func() { _ = parent.Close() }()
	d, err := makeDir(parent, path.Base(name))
	if err != nil {
		return err
	}
	return d.Close()
}

// write writes one file and gives it away last: with the owner changed, a
// process without CAP_FOWNER could no longer set the mode.
func (g *generation) write(f File, gid int) error {
	out, err := createAt(g.dir, f.Path)
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	FaultPoint("generation/file-created")
	err = f.Data.Use(func(b []byte) error { return g.content(out, f.Path, b) })
	if err == nil {
		err = unix.Fchmod(out.fd(), uint32(f.Mode))
	}
	if err == nil {
		err = unix.Fchown(out.fd(), f.UID, gid)
	}
	FaultPoint("generation/file-owned")
	return errors.Join(err, out.Close())
}

// content reserves the pages, locks them where need be, and only then writes:
// no secret byte is ever in a page that could be swapped out.
func (g *generation) content(out *descriptor, name string, b []byte) error {
	size := int64(len(b))
	if size == 0 {
		return nil
	}
	if err := unix.Fallocate(out.fd(), 0, 0, size); err != nil {
		return fmt.Errorf("reserve space: %w", err)
	}
	FaultPoint("generation/file-reserved")
	if g.lock {
		mapped, err := lockAt(g.dir, name, size)
		if err != nil {
			return err
		}
		g.maps = append(g.maps, mapped)
		FaultPoint("generation/file-locked")
	}
	for off := 0; off < len(b); {
		n, err := unix.Pwrite(out.fd(), b[off:], int64(off))
		if err != nil {
			return err
		}
		off += n
	}
	FaultPoint("generation/file-written")
	return nil
}

// open lets the pod enter the complete directories, the topmost last.
func (g *generation) open(plan layout) error {
	for i := range plan.dirs {
		name := plan.dirs[len(plan.dirs)-1-i]
		d, err := openAt(g.dir, name, openDir, resolveInside)
		if err != nil {
			return fmt.Errorf("open directory %+q: %w", name, err)
		}
		if err := errors.Join(own(d, plan.gid, plan.mode), d.Close()); err != nil {
			return err
		}
	}
	return own(g.dir, plan.gid, plan.mode)
}

func own(d *descriptor, gid int, mode fs.FileMode) error {
	if err := unix.Fchown(d.fd(), 0, gid); err != nil {
		return fmt.Errorf("set owner: %w", err)
	}
	if err := unix.Fchmod(d.fd(), uint32(mode)); err != nil {
		return fmt.Errorf("set mode: %w", err)
	}
	FaultPoint("generation/directory-opened")
	return nil
}

func (g *generation) close() { _ = g.dir.Close() }

// drop releases what a failed generation holds, not what it wrote.
func (g *generation) drop() error {
	maps := g.maps
	g.maps = nil
	return errors.Join(unmapAll(maps), g.dir.Close())
}
