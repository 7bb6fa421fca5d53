package proof

import (
	"bytes"
	"context"
	"encoding/json"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/tlog"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

// ProveConfig says which event to prove, out of which log. Path, VKey, Known and
// Progress are as for auditlog.Verify; with Known, the evidence is against one
// of those.
type ProveConfig struct {
	Path, VKey string
	Known      [][]byte
	At         auditlog.Position // of the event, or else
	ID         string            // its id
	Progress   func(done, total int64)
}

// Prove verifies a log and returns evidence of one of its events.
func Prove(ctx context.Context, c ProveConfig) (Evidence, error) {
	p := &prover{c: c}
	_, err := auditlog.Verify(ctx, auditlog.VerifyConfig{
		Path: c.Path, VKey: c.VKey, Known: c.Known, Progress: c.Progress, Each: p.each, Whole: p.whole,
	})
	switch {
	case err != nil:
		return Evidence{}, err
	case p.err != nil:
		return Evidence{}, p.err
	case !p.found && c.ID != "":
		return Evidence{}, refused("give its id or EPOCH/INDEX as the log has it; its epoch may be deleted", "the log has no event with the id %q", c.ID)
	case !p.found:
		return Evidence{}, refused("give its id or EPOCH/INDEX as the log has it; its epoch may be deleted", "the log has no event %v", c.At)
	}
	return p.evidence, nil
}

// prover waits for the event, and for the end of its epoch.
type prover struct {
	c        ProveConfig
	found    bool
	at       auditlog.Position
	leaf     []byte
	evidence Evidence
	err      error // about the event, if the log verifies
}

func (p *prover) each(at auditlog.Position, leaf []byte) error {
	switch {
	case !p.wanted(at, leaf):
	case p.found:
		p.err = refused("give EPOCH/INDEX", "events %v and %v both have the id %q", p.at, at, p.c.ID)
	default:
		p.found, p.at, p.leaf = true, at, bytes.Clone(leaf)
	}
	return nil
}

func (p *prover) wanted(at auditlog.Position, leaf []byte) bool {
	if p.c.ID == "" {
		return at == p.c.At
	}
	if !bytes.Contains(leaf, []byte(p.c.ID)) { // ids need no escape
		return false
	}
	var e struct {
		ID string `json:"id"`
	}
	return json.Unmarshal(leaf, &e) == nil && e.ID == p.c.ID
}

// whole makes the evidence from the tree that the event is in. What stands in the
// way counts only if the log verifies.
func (p *prover) whole(e auditlog.VerifiedEpoch) error {
	if p.found && p.err == nil && p.at.Epoch == e.Number {
		p.evidence, p.err = p.prove(e)
	}
	return nil
}

func (p *prover) prove(e auditlog.VerifiedEpoch) (Evidence, error) {
	text, size, err := p.against(e)
	if err != nil {
		return Evidence{}, err
	}
	if !utf8.Valid(p.leaf) {
		return Evidence{}, refused("export the log instead", "event %v is not UTF-8, so JSON cannot hold it", p.at)
	}
	proof, err := tlog.ProveRecord(size, p.at.Index, e.Hashes)
	if err != nil {
		return Evidence{}, err
	}
	return Evidence{Format: Format, Origin: e.Origin, Index: p.at.Index, Event: string(p.leaf), Proof: proof, Checkpoint: string(text)}, nil
}

// against chooses the checkpoint: the smallest known one, which is the oldest,
// or the last that the file has.
func (p *prover) against(e auditlog.VerifiedEpoch) (text []byte, size int64, err error) {
	for _, k := range e.Known {
		if k.Size > p.at.Index && (text == nil || k.Size < size) {
			text, size = k.Text, k.Size
		}
	}
	switch {
	case text != nil:
		return text, size, nil
	case len(p.c.Known) > 0:
		return nil, 0, refused("give a later one", "no known checkpoint covers event %v", p.at)
	case p.at.Index >= e.CheckpointSize:
		return nil, 0, refused("the next start of the plugin signs it; a snapshot is signed whole", "event %v is not signed: it came after the last checkpoint", p.at)
	}
	return e.Checkpoint, e.CheckpointSize, nil
}
