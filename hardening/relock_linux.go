package hardening

import (
	"errors"
	"fmt"
	"path"
)

// relock maps and locks every regular file of an attached volume.
func (v *Volume) relock() (int, error) {
	list, gen, err := v.generation()
	if err != nil {
		return 0, err
	}
	defer func() { _ = gen.Close() }()
	var maps [][]byte
	for _, f := range list {
		if !f.Mode.IsRegular() || f.Size == 0 || f.Size > maxVolumeBytes {
			continue
		}
		mapped, err := lockAt(gen, path.Clean(f.Path), f.Size)
		if err != nil {
			return 0, errors.Join(fmt.Errorf("lock %+q: %w", f.Path, err), unmapAll(maps))
		}
		maps = append(maps, mapped)
	}
	return len(maps), v.held.swap(maps)
}

func lockAt(gen *descriptor, name string, size int64) ([]byte, error) {
	d, err := openRegular(gen, name)
	if err != nil {
		return nil, err
	}
	mapped, err := lockFile(d, size)
	return mapped, errors.Join(err, d.Close())
}
