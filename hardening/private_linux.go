package hardening

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// PrivateDirectory makes sure that dir is a directory of this process's user
// that nobody else can enter. It makes one that is not there, and closes one that
// is empty and that nobody else could write to, as kubelet makes a hostPath
// (0755): nobody can have left anything in it. Anything else is a *ConfigError
// that names field. Everything is asked of and done to one descriptor, so that
// nobody can put another directory in its place.
func PrivateDirectory(field, dir string) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make %s: %w", field, err)
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s %q: %w", field, dir, err)
	}
	f := os.NewFile(uintptr(fd), dir)
	defer func() { err = errors.Join(err, f.Close()) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("look at %s: %w", field, err)
	}
	mode := st.Mode & 0o7777
	switch {
	case int(st.Uid) != os.Geteuid():
		return &ConfigError{field, fmt.Sprintf("%s belongs to user %d", dir, st.Uid), "find out who made it, then run chown root:root " + dir}
	case mode&0o077 == 0:
		return nil
	case mode&0o022 != 0 || !empty(f):
		return &ConfigError{field, fmt.Sprintf("%s has mode %04o", dir, mode), "run chmod 0700 " + dir}
	}
	if err := unix.Fchmod(fd, 0o700); err != nil {
		return fmt.Errorf("close %s to others: %w", field, err)
	}
	return nil
}

// empty reports whether a directory has no entries; false, if that is not known.
func empty(dir *os.File) bool {
	names, err := dir.Readdirnames(1)
	return errors.Is(err, io.EOF) && len(names) == 0
}
