package proof

import (
	"errors"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/tlog"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

// Checked is what evidence proves.
type Checked struct {
	Origin string
	At     auditlog.Position
	Event  []byte // the leaf, byte for byte
	Size   int64  // of the epoch when the checkpoint was signed
	Root   [32]byte
	Hashes int // in the proof
	// Known says that the checkpoint is one that was kept elsewhere too.
	Known bool
}

const hintEvidence = "ask for evidence as portcullis audit prove writes it, and for the node.vkey of the node that it is from"

// hintKey is also for who holds the key of before a rotation: evidence of one
// event does not hold the rotation.
const hintKey = "give the key that signs this epoch, as portcullis audit export writes it beside the epoch, and portcullis audit verify with your key names it"

// Check reads evidence of an event, with the node's public key. Known are
// checkpoints that were kept elsewhere: if there are any, the evidence must be
// against one of them. What is not proved is a *RefusedError.
func Check(evidence []byte, vkey string, known ...[]byte) (Checked, error) {
	e, err := decode(evidence)
	if err != nil {
		return Checked{}, refused(hintEvidence, "read evidence: %v", err)
	}
	list, err := auditlog.ReadCheckpoints([]byte(e.Checkpoint), vkey)
	if unsigned, ok := errors.AsType[*auditlog.CheckpointError](err); ok {
		return Checked{}, refused(hintKey, "evidence refused: its %s", unsigned.What)
	}
	if err != nil {
		return Checked{}, err
	}
	head := list[0]
	switch {
	case len(list) != 1 || string(head.Text) != e.Checkpoint:
		err = errors.New("it has not one checkpoint alone")
	case head.Origin != e.Origin:
		err = errors.New("its checkpoint is of another log or epoch")
	case e.Index < 0 || e.Index >= head.Size:
		err = errors.New("its checkpoint does not cover the event")
	case len(e.Proof) > maxProof || len(e.Event) > auditlog.MaxLeafBytes || !utf8.ValidString(e.Event):
		err = errors.New("it is longer than evidence of one event is, or no text")
	}
	if err != nil {
		return Checked{}, refused(hintEvidence, "read evidence: %v", err)
	}
	if err := tlog.CheckRecord(e.Proof, head.Size, head.Root, e.Index, tlog.RecordHash([]byte(e.Event))); err != nil {
		return Checked{}, refused("the event, its place or the proof was altered: ask whoever gave it", "evidence of event %d refused: it does not lead to the root that was signed", e.Index)
	}
	c := Checked{
		Origin: head.Origin, At: auditlog.Position{Epoch: head.Epoch, Index: e.Index}, Event: []byte(e.Event),
		Size: head.Size, Root: head.Root, Hashes: len(e.Proof),
	}
	c.Known, err = against(head, vkey, known)
	return c, err
}

// against finds the checkpoint among those that were kept elsewhere.
func against(head auditlog.Checkpoint, vkey string, known [][]byte) (found bool, err error) {
	for _, text := range known {
		list, err := auditlog.ReadCheckpoints(text, vkey)
		if err != nil {
			return false, err
		}
		for _, k := range list {
			same := k.Origin == head.Origin && k.Size == head.Size
			if same && k.Root != head.Root {
				return false, refused("keep both: the node's key signed two different logs", "evidence refused: the known checkpoint of %q, size %d, has another root", k.Origin, k.Size)
			}
			found = found || same
		}
	}
	if len(known) > 0 && !found {
		return false, refused("make it with portcullis audit prove --checkpoint", "evidence refused: its checkpoint, of %q and size %d, is none of the known ones", head.Origin, head.Size)
	}
	return found, nil
}
