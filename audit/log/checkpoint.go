package log

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// thinning is how far apart checkpoints are kept: each covers all before it,
// and one every few seconds would fill the log with signatures.
const thinning = 256

// checkpoint is a signed tree head.
type checkpoint struct {
	size int64
	root tlog.Hash
}

// sign returns a tree head in the form of C2SP tlog-checkpoint.
func sign(signer note.Signer, size int64, root tlog.Hash) ([]byte, error) {
	text := fmt.Sprintf("%s\n%d\n%s\n", signer.Name(), size, base64.StdEncoding.EncodeToString(root[:]))
	return note.Sign(&note.Note{Text: text}, signer)
}

var errUnsigned = errors.New("checkpoint is not signed by the node's key")

// openCheckpoint returns what a checkpoint says, if the key vouches for it.
func openCheckpoint(text []byte, verifier note.Verifier) (checkpoint, error) {
	n, err := note.Open(text, note.VerifierList(verifier))
	if err != nil {
		return checkpoint{}, errUnsigned
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) < 4 || lines[0] != verifier.Name() {
		return checkpoint{}, errors.New("checkpoint is of another log")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 {
		return checkpoint{}, errors.New("checkpoint has no size")
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return checkpoint{}, errors.New("checkpoint has no root")
	}
	return checkpoint{size, tlog.Hash(root)}, nil
}

// storeCheckpoint signs the tree as this transaction sees it.
func storeCheckpoint(tx *bolt.Tx, signer note.Signer) (size int64, text []byte, err error) {
	size, ok := number(tx.Bucket([]byte(bucketMeta)).Get([]byte(metaSize)))
	if !ok {
		return 0, nil, errors.New("size is missing")
	}
	root, err := tlog.TreeHash(size, hashReader{tx.Bucket([]byte(bucketHashes))})
	if err != nil {
		return 0, nil, fmt.Errorf("compute root: %w", err)
	}
	if text, err = sign(signer, size, root); err != nil {
		return 0, nil, fmt.Errorf("sign checkpoint: %w", err)
	}
	b := tx.Bucket([]byte(bucketCheckpoints))
	if err := thin(b, size); err != nil {
		return 0, nil, err
	}
	return size, text, b.Put(key(size), text)
}

// thin drops the last checkpoint where its neighbours are close together.
func thin(b *bolt.Bucket, size int64) error {
	c := b.Cursor()
	last, _ := c.Last()
	before, _ := c.Prev()
	from, ok := number(before)
	if !ok || size-from >= thinning {
		return nil
	}
	if n, ok := number(last); ok && n < size {
		return b.Delete(last)
	}
	return nil
}
