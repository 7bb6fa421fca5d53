package providertest

import (
	"io/fs"
	"maps"
	"sync"

	"github.com/portcullis-csi/portcullis/hardening"
)

// File is a file that was written.
type File struct {
	Content string
	Mode    fs.FileMode
	UID     int
}

// Volume takes files into memory. Like a real one it is filled once, and
// replacing it by equal files changes nothing. The zero value is empty.
type Volume struct {
	// Err, if not nil, is the answer to every write.
	Err error

	mu    sync.Mutex
	files map[string]File
}

// Fill writes all files.
func (v *Volume) Fill(files []hardening.File) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.files != nil {
		return hardening.ErrFilled
	}
	_, err := v.put(files)
	return err
}

// Replace writes all files unless they are there already.
func (v *Volume) Replace(files []hardening.File) (changed bool, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.files == nil {
		return false, hardening.ErrNotAttached
	}
	return v.put(files)
}

func (v *Volume) put(files []hardening.File) (changed bool, err error) {
	if v.Err != nil {
		return false, v.Err
	}
	next := map[string]File{}
	for _, f := range files {
		err := f.Data.Use(func(p []byte) error {
			next[f.Path] = File{Content: string(p), Mode: f.Mode, UID: f.UID}
			return nil
		})
		if err != nil {
			return false, err
		}
	}
	changed = !maps.Equal(next, v.files)
	v.files = next
	return changed, nil
}

// Files returns what was written, by path; nil if nothing was.
func (v *Volume) Files() map[string]File {
	v.mu.Lock()
	defer v.mu.Unlock()
	return maps.Clone(v.files)
}
