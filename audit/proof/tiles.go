package proof

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
	// maxCheckpoint and maxFile bound what is read of an earlier export.
	maxCheckpoint = 16 << 10
	maxFile       = tileWidth * (2 + auditlog.MaxLeafBytes)
	unfinished    = ".new"
	fileMode      = 0o644
	directoryMode = 0o755
)

// tilePath is the path of C2SP tlog-tiles, which does not name the height.
func tilePath(t tlog.Tile) string {
	return "tile/" + strings.TrimPrefix(t.Path(), fmt.Sprintf("tile/%d/", t.H))
}

// tileOf is the path of a bundle of events.
func tileOf(n int64, width int) string {
	return strings.Replace(tilePath(tlog.Tile{H: tileHeight, L: 0, N: n, W: width}), "tile/0/", "tile/entries/", 1)
}

// writer writes one epoch.
type writer struct {
	root    *os.Root
	dir     string
	files   int
	written []string // to be on the disk before the checkpoint is
}

func (w *writer) begin() error {
	if err := w.root.MkdirAll(w.dir, directoryMode); err != nil {
		return fmt.Errorf("make directory of epoch: %w", err)
	}
	return nil
}

// file writes a file whole under its name, unless it is there already: what is
// there is never written over.
func (w *writer) file(name string, content []byte) error {
	path := filepath.Join(w.dir, filepath.FromSlash(name))
	have, err := readFile(w.root, path, maxFile)
	switch {
	case err == nil && bytes.Equal(have, content):
		return nil
	case err == nil:
		return refused("keep it as evidence, and export into another directory", "export refused: %q is there, and is not what the log holds", path)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := w.put(path, content); err != nil {
		return fmt.Errorf("write export: %w", err)
	}
	w.files++
	w.written = append(w.written, path)
	return nil
}

func (w *writer) put(path string, content []byte) error {
	if err := w.root.MkdirAll(filepath.Dir(path), directoryMode); err != nil {
		return err
	}
	if err := w.root.Remove(path + unfinished); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := w.root.OpenFile(path+unfinished, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return w.root.Rename(path+unfinished, path)
}

// tiles writes the hashes of the tree that the checkpoint covers.
func (w *writer) tiles(e auditlog.VerifiedEpoch) error {
	for _, t := range tlog.NewTiles(tileHeight, 0, e.CheckpointSize) {
		data, err := tlog.ReadTileData(t, e.Hashes)
		if err != nil {
			return err
		}
		if err := w.file(tilePath(t), data); err != nil {
			return err
		}
	}
	return w.file(auditlog.VKeyFileName, []byte(e.VKey+"\n"))
}

// finish has everything on the disk, and only then the checkpoint, which makes
// the directory a log.
func (w *writer) finish(e auditlog.VerifiedEpoch) error {
	path := filepath.Join(w.dir, checkpointName)
	have, err := readFile(w.root, path, maxCheckpoint)
	switch {
	case err == nil && bytes.Equal(have, e.Checkpoint):
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := w.sync(w.written...); err != nil {
		return fmt.Errorf("write export: %w", err)
	}
	if err := w.put(path, e.Checkpoint); err != nil {
		return fmt.Errorf("write export: %w", err)
	}
	w.files++
	return w.sync(path)
}

// sync has files and the directories that name them on the disk.
func (w *writer) sync(paths ...string) error {
	all := map[string]bool{".": true}
	for _, path := range paths {
		for ; path != "."; path = filepath.Dir(path) {
			all[path] = true
		}
	}
	for path := range all {
		f, err := w.root.Open(path)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// readFile reads a small regular file.
func readFile(root *os.Root, path string, most int64) ([]byte, error) {
	info, err := root.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > most {
		return nil, refused("keep it as evidence, and export into another directory", "export refused: %q is there, and is not a file of an export", path)
	}
	f, err := root.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read export: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return nil, fmt.Errorf("read export: %w", err)
	}
	return text, nil
}
