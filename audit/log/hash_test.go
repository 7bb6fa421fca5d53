package log_test

import "golang.org/x/mod/sumdb/tlog"

func storedIndex(n uint64) uint64 { return uint64(tlog.StoredHashIndex(0, int64(n))) }

func recordHash(leaf []byte) []byte {
	h := tlog.RecordHash(leaf)
	return h[:]
}
