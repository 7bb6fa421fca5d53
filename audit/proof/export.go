package proof

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

// Names in the directory of an export, besides those of C2SP tlog-tiles.
const (
	epochDir       = "epoch-%010d"
	checkpointName = "checkpoint"
)

// ExportConfig says which log to export, and where. Path, VKey, Known and
// Progress are as for auditlog.Verify, over both passes.
type ExportConfig struct {
	Path, VKey string
	Known      [][]byte
	Out        string // directory, made if it is missing
	Progress   func(done, total int64)
}

// Exported is one epoch as it was exported.
type Exported struct {
	auditlog.EpochReport
	Dir   string
	Size  int64 // events that the checkpoint covers
	Files int   // that were new
}

// Export verifies a log and writes each epoch as a directory of C2SP tlog-tiles:
// checkpoint, tile/<L>/<N>[.p/<W>], tile/entries/<N>[.p/<W>], and beside them
// node.vkey, the key that signed. Into the directory of an earlier export it
// writes what came since, and refuses a log that is not an extension of it.
func Export(ctx context.Context, c ExportConfig) ([]Exported, error) {
	x := &exporter{c: c, sizes: map[int64]int64{}}
	if err := x.open(); err != nil {
		return nil, err
	}
	defer x.out.Close()
	verify := auditlog.VerifyConfig{Path: c.Path, VKey: c.VKey, Known: c.Known, Progress: x.progress(0), Whole: x.compare}
	report, err := auditlog.Verify(ctx, verify)
	if err != nil {
		return nil, err
	}
	if err := x.later(report); err != nil {
		return nil, err
	}
	// Read again, to write: nothing is exported of a log that did not verify, and
	// no more than one bundle of events is held.
	verify.Progress, verify.Each, verify.Whole = x.progress(1), x.each, x.whole
	if _, err := auditlog.Verify(ctx, verify); err != nil {
		return nil, err
	}
	return x.list, nil
}

// exporter writes epochs while they are read.
type exporter struct {
	c     ExportConfig
	out   *os.Root
	sizes map[int64]int64 // signed events by epoch, of the first pass
	list  []Exported

	// Of the epoch that is being read.
	writer *writer
	bundle bytes.Buffer
}

func (x *exporter) progress(pass int64) func(done, total int64) {
	if x.c.Progress == nil {
		return nil
	}
	return func(done, total int64) { x.c.Progress(pass*total+done, 2*total) }
}

// open opens the directory, unless it is a log's own.
func (x *exporter) open() (err error) {
	if err := os.MkdirAll(x.c.Out, 0o755); err != nil { //nolint:gosec // G301: an export is for others to read
		return fmt.Errorf("make directory of export: %w", err)
	}
	if x.out, err = os.OpenRoot(x.c.Out); err != nil {
		return fmt.Errorf("open directory of export: %w", err)
	}
	entries, err := fs.ReadDir(x.out.FS(), ".")
	if err != nil {
		return errors.Join(fmt.Errorf("read directory of export: %w", err), x.out.Close())
	}
	for _, e := range entries {
		if e.Name() == auditlog.KeyFileName || strings.HasSuffix(e.Name(), ".db") {
			err := refused("give a directory of its own", "export refused: %q holds a log itself", x.c.Out)
			return errors.Join(err, x.out.Close())
		}
	}
	return nil
}

func dirOf(epoch int64) string { return fmt.Sprintf(epochDir, epoch) }

const hintBoth = "keep both as evidence, and find out which one is the node's log"

// compare checks, before anything is written, that an epoch is an extension of
// what was exported of it, and the oldest one of what was exported before it.
func (x *exporter) compare(e auditlog.VerifiedEpoch) error {
	oldest := len(x.sizes) == 0
	x.sizes[e.Number] = e.CheckpointSize
	there, err := x.there(e.Number)
	if err == nil && there != nil {
		err = extends(*there, e)
	}
	if err != nil || !oldest || e.Before.Epoch == 0 {
		return err
	}
	if there, err = x.there(e.Before.Epoch); err != nil || there == nil {
		return err
	}
	if there.Size != e.Before.Size || hex.EncodeToString(there.Root[:]) != e.Before.Root {
		return refused(hintBoth, "export refused: epoch %d does not follow epoch %d as it is there", e.Number, there.Epoch)
	}
	return nil
}

// there returns the checkpoint of an epoch that was exported, or nil. What signed
// it stands beside it: it is its root that must be that of the log.
func (x *exporter) there(epoch int64) (*auditlog.Checkpoint, error) {
	text, err := readFile(x.out, filepath.Join(dirOf(epoch), checkpointName), maxCheckpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	vkey, err := readFile(x.out, filepath.Join(dirOf(epoch), auditlog.VKeyFileName), maxCheckpoint)
	if err != nil {
		return nil, err
	}
	list, err := auditlog.ReadCheckpoints(text, string(vkey))
	if err != nil || len(list) != 1 || list[0].Epoch != epoch {
		return nil, refused(hintBoth, "export refused: the checkpoint of epoch %d that is there is not that of an export", epoch)
	}
	return &list[0], nil
}

func extends(there auditlog.Checkpoint, e auditlog.VerifiedEpoch) error {
	switch {
	case there.Origin != e.Origin:
		return refused(hintBoth, "export refused: epoch %d that is there is not of this node", e.Number)
	case there.Size > e.CheckpointSize:
		return refused(hintBoth, "export refused: %d signed events of epoch %d are there, and the log has %d: it is an older one", there.Size, e.Number, e.CheckpointSize)
	}
	root, err := tlog.TreeHash(there.Size, e.Hashes)
	if err != nil {
		return err
	}
	if root != there.Root {
		return refused(hintBoth, "export refused: the first %d events of epoch %d are not those that are there", there.Size, e.Number)
	}
	return nil
}

// later refuses a log that ends before an epoch that was exported.
func (x *exporter) later(r auditlog.Report) error {
	entries, err := fs.ReadDir(x.out.FS(), ".")
	if err != nil {
		return fmt.Errorf("read directory of export: %w", err)
	}
	last := r.Epochs[len(r.Epochs)-1].Number
	if info, err := os.Stat(x.c.Path); err != nil || !info.IsDir() {
		return err // one file says nothing about later ones
	}
	for _, e := range entries {
		var number int64
		if _, err := fmt.Sscanf(e.Name(), epochDir, &number); err == nil && number > last {
			return refused(hintBoth, "export refused: epoch %d is there, and epoch %d is the log's last one: it is an older log", number, last)
		}
	}
	return nil
}

// each gathers the events of a bundle.
func (x *exporter) each(at auditlog.Position, leaf []byte) error {
	if x.writer == nil {
		x.writer = &writer{root: x.out, dir: dirOf(at.Epoch)}
		if err := x.writer.begin(); err != nil {
			return err
		}
	}
	if at.Index >= x.sizes[at.Epoch] {
		return nil // no signature covers it
	}
	x.bundle.Write(binary.BigEndian.AppendUint16(nil, uint16(len(leaf)))) //nolint:gosec // G115: leaves have 32 KiB at most
	x.bundle.Write(leaf)
	if at.Index%tileWidth == tileWidth-1 {
		return x.flush(tileOf(at.Index/tileWidth, tileWidth))
	}
	return nil
}

func (x *exporter) flush(name string) error {
	defer x.bundle.Reset()
	return x.writer.file(name, x.bundle.Bytes())
}

// whole writes what needs all of an epoch, and its checkpoint last.
func (x *exporter) whole(e auditlog.VerifiedEpoch) error {
	if e.CheckpointSize != x.sizes[e.Number] {
		return refused("export a copy or a snapshot", "export refused: the log changed meanwhile")
	}
	if n := e.CheckpointSize % tileWidth; n > 0 {
		if err := x.flush(tileOf(e.CheckpointSize/tileWidth, int(n))); err != nil {
			return err
		}
	}
	w := x.writer
	x.writer = nil
	if err := w.tiles(e); err != nil {
		return err
	}
	if err := w.finish(e); err != nil {
		return err
	}
	x.list = append(x.list, Exported{EpochReport: e.EpochReport, Dir: filepath.Join(x.c.Out, w.dir), Size: e.CheckpointSize, Files: w.files})
	return nil
}
