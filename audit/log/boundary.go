package log

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// Kind is the type of an event that the log writes about itself.
type Kind string

// The first leaf of every epoch is KindOpened, the last of a closed one
// KindClosed, and KindRotated is just before it where the key changed too.
const (
	KindOpened  Kind = "log.opened"
	KindClosed  Kind = "log.closed"
	KindRotated Kind = "key.rotated"
)

// Boundary is the object "log" of such an event.
type Boundary struct {
	// Epoch is, in the first leaf, the epoch before, or 0; else this one. Size
	// and Root are of that whole epoch; in a closing leaf, of all before it.
	Epoch    int64  `json:"epoch"`
	Size     int64  `json:"size"`
	Root     string `json:"root"` // hexadecimal
	Lost     bool   `json:"lost,omitempty"`
	Missing  int64  `json:"missing,omitempty"`  // epochs before that a later one names
	Unsigned int64  `json:"unsigned,omitempty"` // leaves that no signature covered
	// PreviousKey and Key are the verifier keys of KindRotated: the one until
	// here, and the one from the next epoch on.
	PreviousKey string `json:"previousKey,omitempty"`
	Key         string `json:"key,omitempty"`
}

func boundaryOf(epoch, size int64, root tlog.Hash) Boundary {
	return Boundary{Epoch: epoch, Size: size, Root: hex.EncodeToString(root[:])}
}

// parseBoundary reads what it needs of a leaf that may be a boundary.
func parseBoundary(leaf []byte) (Kind, Boundary, error) {
	var e struct {
		Type Kind     `json:"type"`
		Log  Boundary `json:"log"`
	}
	if err := json.Unmarshal(leaf, &e); err != nil {
		return "", Boundary{}, errors.New("is not a JSON object")
	}
	return e.Type, e.Log, nil
}

// boundary has the caller make a leaf, and holds it against what it is to say:
// whoever opens the log next depends on that.
func (l *Log) boundary(k Kind, b Boundary) ([]byte, error) {
	state, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", k, err)
	}
	leaf, err := l.c.Boundary(string(k), state)
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", k, err)
	}
	if err := checkLeaf(leaf); err != nil {
		return nil, fmt.Errorf("make %s: %w", k, err)
	}
	if kind, said, err := parseBoundary(leaf); err != nil || kind != k || said != b {
		return nil, fmt.Errorf("make %s: the leaf does not say what it has to", k)
	}
	return leaf, nil
}
