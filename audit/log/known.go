package log

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// maxKnown bounds how many checkpoints one verification is held against.
const maxKnown = 10_000

// KnownCheckpoint is a checkpoint that was kept elsewhere.
type KnownCheckpoint struct {
	Origin string
	Size   int64
	Root   [32]byte
	Text   []byte

	epoch   int64
	signers []keyID
}

// CheckpointError says why a known checkpoint cannot be held against a log.
type CheckpointError struct {
	What string
	Hint string
}

// Error names the finding and the remedy.
func (e *CheckpointError) Error() string {
	return fmt.Sprintf("read known checkpoint: %s; hint: %s", e.What, e.Hint)
}

const hintCheckpoint = "give checkpoints of this node's log, as they were signed"

// splitCheckpoints cuts a text of several signed notes: each is a text, an empty
// line, and lines of signatures.
func splitCheckpoints(text []byte) [][]byte {
	var list [][]byte
	var note []byte
	signed := false
	for line := range bytes.Lines(text) {
		signature := bytes.HasPrefix(line, []byte("— "))
		if signed && !signature {
			list, note, signed = append(list, note), nil, false
		}
		if len(note) == 0 && len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		note = append(note, line...)
		signed = signature
	}
	if len(note) == 0 {
		return list
	}
	return append(list, note)
}

// readKnown opens checkpoints of a log; several may stand in one text.
func readKnown(texts [][]byte, keys *keyring) ([]KnownCheckpoint, error) {
	var list []KnownCheckpoint
	for _, all := range texts {
		split := splitCheckpoints(all)
		if len(split) == 0 {
			return nil, &CheckpointError{"it is empty", hintCheckpoint}
		}
		for _, text := range split {
			c, err := readHead(text, keys)
			if err != nil {
				return nil, &CheckpointError{err.Error(), hintCheckpoint + ", and the node's key"}
			}
			node, epoch, ok := splitOrigin(c.origin)
			switch {
			case !ok || node != keys.name:
				return nil, &CheckpointError{errOtherLog.Error(), hintCheckpoint}
			case len(list) == maxKnown:
				return nil, &CheckpointError{fmt.Sprintf("there are more than %d", maxKnown), "give those of the newest epochs"}
			}
			list = append(list, KnownCheckpoint{c.origin, c.size, c.root, text, epoch, c.signers})
		}
	}
	return list, nil
}

// absent says why there is no epoch to hold a checkpoint against.
func (k KnownCheckpoint) absent(epochs []epochFile, single bool) error {
	first, last := epochs[0].number, epochs[len(epochs)-1].number
	switch {
	case slices.ContainsFunc(epochs, func(e epochFile) bool { return e.number == k.epoch }):
		return nil
	case single:
		return &CheckpointError{fmt.Sprintf("it is of epoch %d, and the file is epoch %d", k.epoch, first), "give the directory, or the file of that epoch"}
	case k.epoch > last:
		e := tampered(-1, "%d events of epoch %d were signed, and epoch %d is the last one here: this is an older log, or the later epochs were removed", k.Size, k.epoch, last)
		e.File = epochs[len(epochs)-1].path
		return e
	case k.epoch < first:
		return &CheckpointError{fmt.Sprintf("it is of epoch %d, which is not there any more: deleted, by retention or by hand", k.epoch), fmt.Sprintf("give one of epoch %d or later, and look for the deleted one where it was shipped", first)}
	}
	return &CheckpointError{fmt.Sprintf("it is of epoch %d, which the node lost, or which was removed", k.epoch), hintTampered}
}

// against makes a finding of known one.
func against(err error, k KnownCheckpoint) error {
	if t, ok := errors.AsType[*TamperedError](err); ok {
		t.What = fmt.Sprintf("held against the known checkpoint of %q, size %d: %s", k.Origin, k.Size, t.What)
		t.Hint = "this is an older log, or a newly made one; " + hintTampered
	}
	return err
}
