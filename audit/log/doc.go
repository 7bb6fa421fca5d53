// Package log keeps events: one bbolt file with an RFC 6962 Merkle tree over
// them and signed tree heads (C2SP checkpoints).
//
// It promises that an appended leaf is on the disk when Append returns, is
// never changed, and keeps its index; that a file whose leaves, hashes,
// checkpoints or structure were altered is refused by Open and by Verify, which
// reads any bytes at all without a panic and without trusting bbolt; that few
// leaves wait for a signature, and not for long, so that a log with more of them
// is refused as forged; and that what must never wait finds room when what
// grants does not.
//
// It does not promise that leaves after the last checkpoint were not made up by
// whoever can write the file (Report.Signed says how many are before), nor that a file was not replaced by an earlier copy of itself: for both,
// somebody elsewhere must hold a newer checkpoint (VerifyConfig.Known). Whoever
// is root on the node holds its key. Leaves are opaque but for being JSON, and
// for the few fields that Verify looks at.
//
// The caller gives a directory that nobody else can reach, on a disk that
// outlives the process, opens it once, puts on record what Opening says, and
// closes it at the end.
package log
