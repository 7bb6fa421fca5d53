package log

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// maxEpochs is far beyond what a log keeps.
const maxEpochs = 100_000

// epochFile is a file to read; number is 0 where only its content says it.
type epochFile struct {
	path   string
	number int64
	strict bool   // it is one of a directory's, which has no links
	next   string // what was being made to follow it, if it is the last
}

// findEpochs returns the epochs at a path in their order: a directory's, or the
// one file.
func findEpochs(path string) (list []epochFile, single bool, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, false, fmt.Errorf("open audit log: %w", err)
	}
	if !info.IsDir() {
		return []epochFile{{path: path}}, true, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, false, fmt.Errorf("read audit log directory: %w", err)
	}
	for _, e := range entries {
		name := e.Name()
		if !strings.HasPrefix(name, epochPrefix) || strings.HasSuffix(name, unfinished) {
			continue
		}
		number, ok := epochNumber(name)
		if !ok || len(list) == maxEpochs {
			return nil, false, &DirectoryError{filepath.Join(path, name), "is not the name of an epoch's file", "give a directory as the plugin made it"}
		}
		list = append(list, epochFile{path: filepath.Join(path, name), number: number, strict: true})
	}
	if len(list) == 0 {
		return nil, false, &DirectoryError{path, "holds no epoch of an audit log", "give the plugin's --state-dir/audit, or a copy of it"}
	}
	slices.SortFunc(list, func(a, b epochFile) int { return cmp.Compare(a.number, b.number) })
	last := &list[len(list)-1]
	next := filepath.Join(path, EpochFile(last.number+1)+unfinished)
	if _, err := os.Lstat(next); err == nil {
		last.next = next
	}
	return list, false, nil
}

// open opens the file for reading while nobody writes to it.
func (e epochFile) open() (*os.File, int64, error) {
	flags := os.O_RDONLY | syscall.O_NONBLOCK // a FIFO must not hang it
	if e.strict {
		flags |= syscall.O_NOFOLLOW
	}
	f, err := os.OpenFile(e.path, flags, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, 0, &DirectoryError{e.path, "is a link", "give a directory as the plugin made it"}
	}
	if err != nil {
		return nil, 0, fmt.Errorf("open audit log: %w", err)
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		err = fmt.Errorf("look at audit log: %w", err)
	case info.Mode()&fs.ModeType != 0:
		err = &DirectoryError{e.path, "is not a regular file", "give the file of an epoch, or a directory of them"}
	default:
		err = lock(f, syscall.LOCK_SH)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}
