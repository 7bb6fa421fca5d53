package log

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// maxKnown bounds how many checkpoints one verification is held against.
const maxKnown = 10_000

// Checkpoint is the signed head of one epoch's tree, as it was read.
type Checkpoint struct {
	Origin string // <node origin>/<epoch>
	Epoch  int64
	Size   int64
	Root   [32]byte
	Text   []byte // exactly as signed

	signers []keyID
}

// CheckpointError says why a known checkpoint cannot be held against a log.
type CheckpointError struct {
	What string
	Hint string
}

// Error names the finding and the remedy.
func (e *CheckpointError) Error() string {
	return fmt.Sprintf("read checkpoint: %s; hint: %s", e.What, e.Hint)
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

// ReadCheckpoints opens signed checkpoints of one node's log, of which several
// may stand in one text. The keys are as in VerifyConfig.VKey, but no rotation
// is followed.
func ReadCheckpoints(text []byte, vkey string) ([]Checkpoint, error) {
	keys, err := newKeyring(vkey)
	if err != nil {
		return nil, err
	}
	return readKnown([][]byte{text}, keys)
}

// readKnown opens checkpoints of a log; several may stand in one text.
func readKnown(texts [][]byte, keys *keyring) ([]Checkpoint, error) {
	var list []Checkpoint
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
			list = append(list, Checkpoint{c.origin, epoch, c.size, c.root, text, c.signers})
		}
	}
	return list, nil
}

// absent says why there is no epoch to hold a checkpoint against.
func (k Checkpoint) absent(epochs []epochFile, single bool) error {
	first, last := epochs[0].number, epochs[len(epochs)-1].number
	switch {
	case slices.ContainsFunc(epochs, func(e epochFile) bool { return e.number == k.Epoch }):
		return nil
	case single:
		return &CheckpointError{fmt.Sprintf("it is of epoch %d, and the file is epoch %d", k.Epoch, first), "give the directory, or the file of that epoch"}
	case k.Epoch > last:
		e := tampered(-1, "%d events of epoch %d were signed, and epoch %d is the last one here: this is an older log, or the later epochs were removed", k.Size, k.Epoch, last)
		e.File = epochs[len(epochs)-1].path
		return e
	case k.Epoch < first:
		return &CheckpointError{fmt.Sprintf("it is of epoch %d, which is not there any more: deleted, by retention or by hand", k.Epoch), fmt.Sprintf("give one of epoch %d or later, and look for the deleted one where it was shipped", first)}
	}
	return &CheckpointError{fmt.Sprintf("it is of epoch %d, which the node lost, or which was removed", k.Epoch), hintTampered}
}

// against makes a finding of known one.
func against(err error, k Checkpoint) error {
	if t, ok := errors.AsType[*TamperedError](err); ok {
		t.What = fmt.Sprintf("held against the known checkpoint of %q, size %d: %s", k.Origin, k.Size, t.What)
		t.Hint = "this is an older log, or a newly made one; " + hintTampered
	}
	return err
}
