package inputs

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

const (
	filePrefix    = "inputs-"
	fileSuffix    = ".seg"
	setAsideName  = "inputs.unreadable"
	fileMode      = 0o600
	directoryMode = 0o700
	// maxFiles bounds what is read of a directory.
	maxFiles = 4 * parts
)

// file holds records, one behind the other.
type file struct {
	number int64
	f      *os.File
	size   int64 // of whole records
}

func fileName(number int64) string { return fmt.Sprintf("%s%010d%s", filePrefix, number, fileSuffix) }

func (f *file) name() string { return fileName(f.number) }

// makeDirectory opens the directory, made if it is missing.
func makeDirectory(path string) (*os.Root, error) {
	if err := os.Mkdir(path, directoryMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make directory of kept inputs: %w; hint: make its parent on the node's disk", err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		return nil, fmt.Errorf("look at directory of kept inputs: %w", err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir():
		return nil, fmt.Errorf("directory of kept inputs %q is not a directory; hint: remove it", path)
	case !ok || int(stat.Uid) != os.Geteuid():
		return nil, fmt.Errorf("directory of kept inputs %q belongs to another user; hint: find out who made it, then remove it", path)
	case info.Mode().Perm()&^directoryMode != 0:
		return nil, fmt.Errorf("directory of kept inputs %q has mode %04o; hint: chmod 0700", path, info.Mode().Perm())
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open directory of kept inputs: %w", err)
	}
	return root, nil
}

// load reads what is there. What is no file of ours, or damaged, goes to
// refused.
func (s *Store) load(refused func(name string, err error)) error {
	numbers, err := numbersIn(s.dir)
	if err != nil {
		return err
	}
	for i, n := range numbers {
		s.next = n
		if i < len(numbers)-maxFiles {
			refused(fileName(n), errors.New("there are too many files"))
			continue
		}
		if err := s.loadFile(n); err != nil {
			refused(fileName(n), err)
		}
	}
	return nil
}

// numbersIn returns the numbers of the files, in order.
func numbersIn(dir *os.Root) ([]int64, error) {
	d, err := dir.Open(".")
	if err != nil {
		return nil, fmt.Errorf("open directory of kept inputs: %w", err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list kept inputs: %w", err)
	}
	var numbers []int64
	for _, name := range names {
		text := strings.TrimSuffix(strings.TrimPrefix(name, filePrefix), fileSuffix)
		n, err := strconv.ParseInt(text, 10, 64)
		if err == nil && n > 0 && fileName(n) == name {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

func (s *Store) loadFile(number int64) error {
	path := fileName(number)
	// Opening a FIFO waits for a writer (fifo(7)).
	info, err := s.dir.Lstat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is not a regular file")
	}
	f, err := s.dir.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	one := &file{number: number, f: f, size: info.Size()}
	found := map[name]place{}
	err = heads(f, info.Size(), func(h head, at int64) {
		if len(s.index)+len(found) < 2*maxThings {
			found[h.name] = place{file: one, at: at, length: h.length}
		}
	})
	if err != nil {
		return errors.Join(err, f.Close())
	}
	for n, p := range found {
		s.index[n] = p
	}
	s.files = append(s.files, one)
	s.bytes += one.size
	return nil
}

// setAside keeps the last file that could not be read, for whoever wonders, and
// has the others begin anew.
func (s *Store) setAside(name string, cause error) {
	s.c.Logger.Warn("kept inputs are not readable, set aside", slog.String(keyFile, name), slog.Any(keyError, cause))
	if err := s.dir.Rename(name, setAsideName); err != nil {
		s.c.Logger.Warn("unreadable kept inputs not set aside", slog.String(keyFile, name), slog.Any(keyError, err))
	}
}

func (s *Store) closeFiles() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, f := range s.files {
		errs = append(errs, f.f.Close())
	}
	s.files, s.index = nil, map[name]place{}
	return errors.Join(errs...)
}
