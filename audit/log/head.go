package log

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// maxCheckpointBytes is far beyond a checkpoint with many signatures.
const maxCheckpointBytes = 16 << 10

var errOtherLog = errors.New("checkpoint is of another log")

// treeHead is a checkpoint that was read, and what vouches for it.
type treeHead struct {
	checkpoint
	origin  string
	signers []keyID // of the keys that were asked for
}

// readHead returns what a checkpoint says, if one of the keys vouches for it.
// Signatures of others, such as witnesses, are passed over.
func readHead(text []byte, keys note.Verifiers) (treeHead, error) {
	if len(text) > maxCheckpointBytes {
		return treeHead{}, fmt.Errorf("checkpoint is longer than %d bytes", maxCheckpointBytes)
	}
	n, err := note.Open(text, keys)
	if err != nil {
		return treeHead{}, errUnsigned
	}
	h, err := parseHead(n.Text)
	for _, s := range n.Sigs {
		h.signers = append(h.signers, keyID{s.Name, s.Hash})
	}
	return h, err
}

// parseHead reads the text that is signed. Further lines are extensions.
func parseHead(text string) (h treeHead, err error) {
	lines := strings.Split(text, "\n")
	if len(lines) < 4 {
		return h, errors.New("checkpoint has not three lines")
	}
	size, ok := decimal(lines[1])
	if !ok {
		return h, errors.New("checkpoint has no size")
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return h, errors.New("checkpoint has no root")
	}
	h.origin, h.size, h.root = lines[0], size, tlog.Hash(root)
	return h, nil
}
