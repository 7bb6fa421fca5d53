package proof

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"golang.org/x/mod/sumdb/tlog"
)

const (
	// Format is that of the evidence that this package makes and reads.
	Format = "portcullis.dev/evidence/v1"
	// MaxEvidenceBytes is far beyond the longest event, escaped, with its proof.
	MaxEvidenceBytes = 256 << 10
	// maxProof is the depth of the largest tree that has a size.
	maxProof = 63
)

// Evidence proves that one event is in a log.
type Evidence struct {
	Format string `json:"format"`
	Origin string `json:"origin"` // of the checkpoint: <cluster>/nodes/<node>/<epoch>
	Index  int64  `json:"index"`  // in that epoch
	// Event is the leaf, byte for byte.
	Event string `json:"event"`
	// Proof leads from the event to the root: RFC 6962 audit path, base64.
	Proof []tlog.Hash `json:"proof"`
	// Checkpoint is as the node signed it, with further signatures if it had them.
	Checkpoint string `json:"checkpoint"`
}

// Encode returns the evidence as a file to hand over.
func (e Evidence) Encode() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return nil, fmt.Errorf("encode evidence: %w", err)
	}
	return b.Bytes(), nil
}

// decode reads evidence strictly: a name that is unknown, missing, written
// otherwise or there twice could be read differently by the next reader.
func decode(text []byte) (e Evidence, err error) {
	if len(text) > MaxEvidenceBytes {
		return e, fmt.Errorf("it is longer than %d bytes", MaxEvidenceBytes)
	}
	if err := checkNames(text); err != nil {
		return e, err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return e, errors.New("it is not evidence in JSON")
	}
	if e.Format != Format {
		return e, fmt.Errorf("its format is not %s", Format)
	}
	return e, nil
}

func names() []string { return []string{"format", "origin", "index", "event", "proof", "checkpoint"} }

// checkNames checks that a text is one object with each name once.
func checkNames(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.New("it is not a JSON object")
	}
	seen := map[string]bool{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return errors.New("it is not a JSON object")
		}
		if text, ok := name.(string); ok && seen[text] {
			return fmt.Errorf("it has %.40q twice", text)
		} else if ok {
			seen[text] = true
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return errors.New("it is not a JSON object")
		}
	}
	if _, err := d.Token(); err != nil {
		return errors.New("it is not a JSON object")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something comes after it")
	}
	for _, name := range names() {
		if !seen[name] {
			return fmt.Errorf("it has no %q", name)
		}
	}
	if len(seen) != len(names()) {
		return errors.New("it has names that evidence has not")
	}
	return nil
}
