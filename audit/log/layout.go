package log

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"
)

// Files in the log's directory, beside the epochs.
const (
	KeyFileName    = "node.key"  // secret
	VKeyFileName   = "node.vkey" // for whoever verifies
	formerFileName = "audit.db"  // of builds before there were epochs
	epochPrefix    = "epoch-"
	epochSuffix    = ".db"
	unfinished     = ".new"
	fileMode       = 0o600
	publicMode     = 0o644
	directoryMode  = 0o700
)

// Names inside an epoch's file. Events and checkpoints have 8-byte big-endian
// keys: the index, and the size of the tree. Hashes are in tlog's storage order.
const (
	formatV2 = "portcullis-log-v2"

	bucketEvents      = "events"
	bucketHashes      = "hashes"
	bucketCheckpoints = "checkpoints"
	bucketMeta        = "meta"

	metaFormat = "format"
	metaOrigin = "origin"
	metaSize   = "size"
	metaClosed = "closed" // one byte, 1, once the epoch has ended
	closedMark = "\x01"
)

// Keys of structured log lines.
const (
	keyError = "error"
	keyCount = "count"
	keyFile  = "file"
	keyEpoch = "epoch"
	keyBytes = "bytes"
)

// EpochFile returns the name of an epoch's file.
func EpochFile(number int64) string {
	return fmt.Sprintf("%s%010d%s", epochPrefix, number, epochSuffix)
}

// epochNumber is the reverse of EpochFile; ok is false for any other name.
func epochNumber(name string) (number int64, ok bool) {
	digits := strings.TrimSuffix(strings.TrimPrefix(name, epochPrefix), epochSuffix)
	number, err := strconv.ParseInt(digits, 10, 64)
	return number, err == nil && number > 0 && EpochFile(number) == name
}

// epochOrigin is the origin of an epoch's tree: no two trees share one.
func epochOrigin(node string, number int64) string {
	return node + "/" + strconv.FormatInt(number, 10)
}

// splitOrigin is the reverse of epochOrigin.
func splitOrigin(origin string) (node string, number int64, ok bool) {
	at := strings.LastIndexByte(origin, '/')
	if at < 0 {
		return "", 0, false
	}
	number, err := strconv.ParseInt(origin[at+1:], 10, 64)
	return origin[:at], number, err == nil && number > 0 && epochOrigin(origin[:at], number) == origin
}

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

// planned are stored hashes, and those of leaves that are still to come.
type planned struct {
	stored tlog.HashReader
	from   int64
	more   computed
}

// ReadHashes returns the hashes at these places in storage order.
func (p *planned) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, at := range indexes {
		reader := p.stored
		if at >= p.from {
			reader, at = p.more, at-p.from
		}
		one, err := reader.ReadHashes([]int64{at})
		if err != nil {
			return nil, err
		}
		hashes[i] = one[0]
	}
	return hashes, nil
}

// rootAfter is the root of a tree once these leaves are appended.
func rootAfter(stored tlog.HashReader, size int64, leaves [][]byte) (tlog.Hash, error) {
	p := &planned{stored: stored, from: tlog.StoredHashIndex(0, size)}
	for i, leaf := range leaves {
		hashes, err := tlog.StoredHashes(size+int64(i), leaf, p)
		if err != nil {
			return tlog.Hash{}, err
		}
		p.more = append(p.more, hashes...)
	}
	return tlog.TreeHash(size+int64(len(leaves)), p)
}
