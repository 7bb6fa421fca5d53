package log

import (
	"encoding/binary"
	"fmt"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"
)

// Files in the log's directory.
const (
	FileName      = "audit.db"
	KeyFileName   = "node.key"  // secret
	VKeyFileName  = "node.vkey" // for whoever verifies
	unfinished    = ".new"
	fileMode      = 0o600
	publicMode    = 0o644
	directoryMode = 0o700
)

// Names inside the file. Events and checkpoints have 8-byte big-endian keys:
// the index, and the size of the tree. Hashes are in tlog's storage order.
const (
	formatV1 = "portcullis-log-v1"

	bucketEvents      = "events"
	bucketHashes      = "hashes"
	bucketCheckpoints = "checkpoints"
	bucketMeta        = "meta"

	metaFormat = "format"
	metaOrigin = "origin"
	metaSize   = "size"
)

// Keys of structured log lines.
const (
	keyError = "error"
	keyCount = "count"
	keyFile  = "file"
)

func buckets() []string {
	return []string{bucketEvents, bucketHashes, bucketCheckpoints, bucketMeta}
}

func key(n int64) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(n)) //nolint:gosec // G115: indexes and sizes are not negative
}

// number reads a key; ok is false for anything key does not make.
func number(k []byte) (n int64, ok bool) {
	if len(k) != 8 {
		return 0, false
	}
	n = int64(binary.BigEndian.Uint64(k)) //nolint:gosec // G115: what overflows is negative, and refused
	return n, n >= 0
}

// hashReader reads stored hashes within a transaction.
type hashReader struct{ b *bolt.Bucket }

// ReadHashes returns the hashes at these places in storage order.
func (r hashReader) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, at := range indexes {
		v := r.b.Get(key(at))
		if len(v) != tlog.HashSize {
			return nil, fmt.Errorf("hash %d is missing", at)
		}
		copy(hashes[i][:], v)
	}
	return hashes, nil
}

// computed are the hashes of leaves that were read, in storage order.
type computed []tlog.Hash

// ReadHashes returns the hashes at these places in storage order.
func (c computed) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, at := range indexes {
		if at < 0 || at >= int64(len(c)) {
			return nil, fmt.Errorf("hash %d is missing", at)
		}
		hashes[i] = c[at]
	}
	return hashes, nil
}
