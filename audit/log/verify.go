package log

import (
	"context"
	"errors"
	"io"
	"time"
)

// progressEvery is how many events pass between two calls of Progress.
const progressEvery = 1024

// openTooLong is how long a delivery may be without its end.
const openTooLong = 10 * time.Minute

// VerifyConfig says what to verify, and against what.
type VerifyConfig struct {
	// Path is the file of one epoch, or a directory of them: a copy, a snapshot
	// that was unpacked, or the directory of a stopped node.
	Path string
	// VKey is the content of the node's node.vkey, of any time: from one key the
	// others are found by the rotations on record. Several may be given, one a
	// line; one of them must have signed.
	VKey string
	// Known are checkpoints of this log that were kept elsewhere, several in a
	// text where that is handy. Without one, a log that was put back to an
	// earlier state of itself passes.
	Known    [][]byte
	Now      time.Time                         // absent: the time of the call
	Progress func(done, total int64)           // may be nil
	Each     func(at Position, l []byte) error // may be nil; sees every leaf, before the verdict
	// Whole may be nil. It sees every epoch that is in order by itself and with
	// those before it; what it made of that counts only if Verify returns no error.
	Whole func(VerifiedEpoch) error
}

// Verify reads a log that nobody writes to, and returns what it holds or a
// *TamperedError. It reads any bytes without a panic, and never writes.
func Verify(ctx context.Context, c VerifyConfig) (Report, error) {
	files, single, err := findEpochs(c.Path)
	if err != nil {
		return Report{}, err
	}
	v, err := newVerification(ctx, c, files)
	if err != nil {
		return Report{}, err
	}
	for i := range v.files {
		if err := v.survey(&v.files[i]); err != nil {
			return Report{}, err
		}
	}
	v.single = single
	if err := v.readKnown(); err != nil {
		return Report{}, err
	}
	for _, e := range v.files {
		if err := v.file(e); err != nil {
			return Report{}, err
		}
	}
	return v.finish()
}

// verification is one run of Verify.
type verification struct {
	ctx    context.Context
	c      VerifyConfig
	keys   *keyring
	files  []epochFile
	single bool // the path is one file
	known  []Checkpoint
	story  *story
	chain  chain
	report Report
}

func newVerification(ctx context.Context, c VerifyConfig, files []epochFile) (*verification, error) {
	keys, err := newKeyring(c.VKey)
	if err != nil {
		return nil, err
	}
	if c.Now.IsZero() {
		c.Now = time.Now()
	}
	v := &verification{ctx: ctx, c: c, keys: keys, files: files, chain: chain{keys: keys}}
	v.story = newStory(c)
	v.report.Origin = keys.name
	return v, nil
}

func (v *verification) readKnown() (err error) {
	if v.known, err = readKnown(v.c.Known, v.keys); err != nil {
		return err
	}
	v.report.Known = len(v.known)
	return nil
}

// file verifies one epoch's file.
func (v *verification) file(e epochFile) error {
	f, size, err := e.open()
	if err != nil {
		return err
	}
	defer f.Close()
	return v.epoch(e, f, size)
}

// epoch verifies one epoch, and that it follows the one before.
func (v *verification) epoch(e epochFile, r io.ReaderAt, size int64) error {
	x, b, err := v.examine(e, r, size)
	if err == nil {
		err = v.chain.add(e, x, b)
	}
	if err == nil {
		err = v.count(x, b.first)
	}
	return named(err, e.path)
}

// examine reads an epoch by itself.
func (v *verification) examine(e epochFile, r io.ReaderAt, size int64) (*examination, *boundaries, error) {
	b := &boundaries{ended: -1}
	x := &examination{ctx: v.ctx, node: v.keys.name, want: e.number, keys: v.keys}
	v.story.begin()
	x.each = func(index int64, leaf []byte) error {
		h, ok := readHeader(leaf)
		if !ok {
			return tampered(index, "is not a JSON object")
		}
		b.see(index, h.Type, h.Log)
		return v.story.event(Position{x.number, index}, leaf, h)
	}
	if err := x.run(r, size); err != nil {
		return nil, nil, err
	}
	return x, b, b.check(x)
}

// count holds an epoch against known checkpoints, and reports it.
func (v *verification) count(x *examination, before Boundary) error {
	signed := x.last.size
	var known []Checkpoint
	for _, k := range v.known {
		if k.Epoch != x.number {
			continue
		}
		if err := x.covers(checkpoint{size: k.Size, root: k.Root}); err != nil {
			return against(err, k)
		}
		signed, known = max(signed, k.Size), append(known, k)
	}
	root, err := x.root()
	if err != nil {
		return err
	}
	last := v.chain.last()
	e := EpochReport{
		Number: x.number, Origin: x.origin, Events: x.size, Signed: signed, Checkpoints: x.checkpoints,
		Root: root, Closed: x.closed, Key: last.key.String(),
	}
	if last.next != (keyID{}) {
		e.Rotated = last.next.String()
	}
	v.report.add(e)
	if v.c.Whole == nil {
		return nil
	}
	return v.c.Whole(VerifiedEpoch{
		EpochReport: e, Checkpoint: x.text, CheckpointSize: x.last.size, VKey: v.keys.text(last.key), Known: known, Before: before, Hashes: x.hashes,
	})
}

func (r *Report) add(e EpochReport) {
	r.Epochs = append(r.Epochs, e)
	r.Events += e.Events
	r.Checkpoints += e.Checkpoints
	r.Signed += e.Signed
	r.Tail += e.Events - e.Signed
	r.Root = e.Root
}

// finish checks what only the whole tells.
func (v *verification) finish() (Report, error) {
	if !v.single {
		if err := v.end(); err != nil {
			return Report{}, err
		}
	}
	if err := v.chain.anchored(); err != nil {
		return Report{}, named(err, v.c.Path)
	}
	for _, k := range v.known {
		if err := k.absent(v.files, v.single); err != nil {
			return Report{}, err
		}
		if !v.chain.trusts(k.signers) {
			return Report{}, &CheckpointError{errUnsigned.Error(), hintCheckpoint + ", and the node's key"}
		}
	}
	r := v.report
	r.Deleted, r.Lost = v.chain.deleted, v.chain.lost
	r.From, r.To = v.story.from, v.story.to
	r.OpenIntents, r.Incomplete, r.Unlisted = v.story.intents(), v.story.incomplete(), v.story.unlisted
	return r, nil
}

// end checks that no epoch is missing after the last one: the next one is made
// before one ends.
func (v *verification) end() error {
	last := v.files[len(v.files)-1]
	if !v.chain.last().closed {
		return nil
	}
	if last.next == "" {
		return missing(v.c.Path, last.number+1, "the one before it has ended, and the next is made before that")
	}
	next := epochFile{path: last.next, number: last.number + 1, strict: true}
	f, size, err := next.open()
	if err != nil {
		return err
	}
	defer f.Close()
	v.c.Each, v.c.Whole = nil, nil
	x, b, err := v.examine(next, f, size)
	if err == nil {
		err = v.chain.add(next, x, b)
	}
	return named(err, next.path)
}

// named puts the file into a finding that names none.
func named(err error, path string) error {
	if t, ok := errors.AsType[*TamperedError](err); ok && t.File == "" {
		t.File = path
	}
	return err
}
