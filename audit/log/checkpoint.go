package log

import (
	"encoding/base64"
	"errors"
	"fmt"

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

// head is what a checkpoint of a tree is made with.
type head struct {
	origin  string
	signers []note.Signer // one, or the old and the new key at a rotation
}

// sign returns a tree head in the form of C2SP tlog-checkpoint.
func (h head) sign(size int64, root tlog.Hash) ([]byte, error) {
	text := fmt.Sprintf("%s\n%d\n%s\n", h.origin, size, base64.StdEncoding.EncodeToString(root[:]))
	return note.Sign(&note.Note{Text: text}, h.signers...)
}

var errUnsigned = errors.New("checkpoint is not signed by the node's key")

// openCheckpoint returns what a checkpoint of this tree says, if one of the
// keys vouches for it.
func openCheckpoint(text []byte, origin string, verifiers ...note.Verifier) (checkpoint, error) {
	h, err := readHead(text, note.VerifierList(verifiers...))
	if err == nil && h.origin != origin {
		err = errOtherLog
	}
	return h.checkpoint, err
}

// store signs the tree as this transaction sees it.
func (h head) store(tx *bolt.Tx) (c checkpoint, text []byte, err error) {
	size, ok := number(tx.Bucket([]byte(bucketMeta)).Get([]byte(metaSize)))
	if !ok {
		return c, nil, errors.New("size is missing")
	}
	root, err := tlog.TreeHash(size, hashReader{tx.Bucket([]byte(bucketHashes))})
	if err != nil {
		return c, nil, fmt.Errorf("compute root: %w", err)
	}
	if text, err = h.sign(size, root); err != nil {
		return c, nil, fmt.Errorf("sign checkpoint: %w", err)
	}
	b := tx.Bucket([]byte(bucketCheckpoints))
	if err := thin(b, size); err != nil {
		return c, nil, err
	}
	return checkpoint{size, root}, text, b.Put(key(size), text)
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
