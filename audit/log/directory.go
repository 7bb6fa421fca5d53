package log

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// openDirectory opens the log's directory, made if it is missing. Whoever else
// could write there could replace the log and the key.
func openDirectory(path string) (*os.Root, error) {
	if err := os.Mkdir(path, directoryMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, &DirectoryError{path, fmt.Sprintf("cannot be made: %v", err), "make its parent on the node's disk"}
	}
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return nil, fmt.Errorf("look at audit log directory: %w", err)
	case !info.IsDir():
		return nil, &DirectoryError{path, "is not a directory", "give a real directory, no link"}
	}
	dir, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open audit log directory: %w", err)
	}
	f, err := dir.Open(".")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open audit log directory: %w", err), dir.Close())
	}
	defer f.Close()
	if err := checkPrivate(f, directoryMode); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return dir, nil
}

// openPlain opens a file of the directory and follows no link: os.Root follows
// those that stay inside.
func openPlain(dir *os.Root, name string, flag int, mode fs.FileMode) (*os.File, error) {
	f, err := dir.OpenFile(name, flag, mode)
	if err != nil {
		return nil, err
	}
	opened, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	named, err := dir.Lstat(name)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if !os.SameFile(opened, named) {
		return nil, errors.Join(&DirectoryError{f.Name(), "is a link", "find out who made it, then put the file in its place"}, f.Close())
	}
	return f, nil
}

// checkPrivate refuses what others than this process's user could read, write
// or replace.
func checkPrivate(f *os.File, mode fs.FileMode) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("look at %s: %w", f.Name(), err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular() && !info.IsDir():
		return &DirectoryError{f.Name(), "is not a regular file", "remove it"}
	case !ok || int(stat.Uid) != os.Geteuid():
		return &DirectoryError{f.Name(), "belongs to another user", "find out who made it, then chown it"}
	case info.Mode().Perm()&^mode != 0:
		return &DirectoryError{f.Name(), fmt.Sprintf("has mode %04o", info.Mode().Perm()), fmt.Sprintf("find out why, then chmod %04o", mode)}
	}
	return nil
}

// lock keeps other processes that lock away from f while it is open. It does
// not wait.
func lock(f *os.File, how int) error {
	err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrLocked
	}
	if err != nil {
		return fmt.Errorf("lock audit log: %w", err)
	}
	return nil
}

// isFull reports whether the disk has no room, which passes.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
