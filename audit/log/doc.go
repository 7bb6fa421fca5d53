// Package log keeps events: a sequence of epochs, each one bbolt file with an
// RFC 6962 Merkle tree over its events and signed tree heads (C2SP checkpoints).
//
// It promises that an appended leaf is on the disk when Append returns, is
// never changed, and keeps its place; that a file whose leaves, hashes,
// checkpoints or structure were altered is refused by Open (the epoch that is
// open whole, of those that have ended what ties them together) and by Verify,
// which reads any bytes at all without a panic and without trusting bbolt; that
// few leaves wait for a signature, and not for long, so that a log with more of
// them is refused as forged; that an epoch which was removed is noticed, the
// last one too; and that what must never wait finds room when what grants does
// not, on a full disk as well.
//
// An epoch ends at a size or an age. Its last leaf says what the tree before it
// was and the first of the next what the whole was, so that the epochs are one
// chain. The next file is on the disk before the old one is closed, and has its
// name only after: whatever a crash leaves, it is plain which step was the last,
// and nobody who appends notices. The oldest epochs are deleted when all
// together take more than they may and nobody needs them.
//
// It does not promise that leaves after the last checkpoint were not made up by
// whoever can write the file (Report.Signed says how many are before), nor that
// a file was not replaced by an earlier copy of itself: for both, somebody
// elsewhere must hold a newer checkpoint (VerifyConfig.Known). Whoever is root
// on the node holds its key. On a file system that writes to a new place each
// time (btrfs, zfs) there is no reserve for a full disk. Leaves are opaque but
// for being JSON, and for the few fields that this package looks at.
//
// The caller gives a directory that nobody else can reach, on a disk that
// outlives the process and has more room than the retention; opens it once, puts
// on record what Opening says, and closes it at the end.
package log
