package log

import (
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Report is what a log that verifies holds.
type Report struct {
	Origin      string // of the node
	Epochs      []EpochReport
	Events      int64
	Checkpoints int       // that were kept, each checked
	Root        [32]byte  // of the newest epoch
	From, To    time.Time // of the first and last event
	// Signed is how many of the events a checkpoint covers, be it in a file or
	// of VerifyConfig.Known. Only of these anything is proved.
	Signed int64
	// Tail is how many came after those: they are in the order of their hashes,
	// but whoever can write the file can have written them. A crash leaves a
	// short one, and a longer one is refused.
	Tail int64
	// Deleted is the newest of the epochs that were there before the oldest one
	// that is: retention deletes them, and so can whoever can delete files.
	Deleted int64
	// Lost are epochs that the node itself did not find when it began a new one.
	Lost []Lost
	// Known is how many checkpoints from elsewhere the log was held against.
	Known       int
	OpenIntents []OpenIntent
	Incomplete  []Incomplete
	// Unlisted is how many more there are than the two lists take.
	Unlisted int64
}

// EpochReport is one epoch of a log that verifies.
type EpochReport struct {
	Number      int64
	Origin      string // of its checkpoints
	Events      int64
	Signed      int64
	Checkpoints int
	Root        [32]byte
	Closed      bool
	Key         string // that signed it, as NAME+HASH
	Rotated     string // key that both its own and this one handed the log over to
}

// Lost says that a node began an epoch without finding those before it.
type Lost struct {
	After int64 // the last epoch before, 0 if none was left
	Epoch int64 // the one that was begun
}

// Verdict says in one line what is proved, and what is not.
func (r Report) Verdict() string {
	const proved = "none altered, removed or reordered"
	where := r.Origin
	switch n := len(r.Epochs); {
	case n == 1:
		where = r.Epochs[0].Origin
	case n > 1:
		where = fmt.Sprintf("%s in %d epochs (%d to %d)", r.Origin, n, r.Epochs[0].Number, r.Epochs[n-1].Number)
	}
	parts := []string{fmt.Sprintf("%d events of %s, %s", r.Events, where, proved)}
	if r.Tail > 0 {
		parts[0] = fmt.Sprintf("the first %d of %s", r.Signed, parts[0])
		parts = append(parts, fmt.Sprintf("WARNING: the last %d are not signed, so a crash came before their signature or somebody made them up", r.Tail))
	}
	for _, l := range r.Lost {
		parts = append(parts, fmt.Sprintf("WARNING: the node found its log lost when it began epoch %d after epoch %d", l.Epoch, l.After))
	}
	if r.Deleted > 0 {
		parts = append(parts, fmt.Sprintf("epochs up to %d are deleted, by retention or by hand", r.Deleted))
	}
	if r.Known == 0 {
		parts = append(parts, "whether it was put back to an earlier state or newly made cannot be known without a checkpoint from elsewhere")
	}
	return strings.Join(parts, "; ")
}

// Incomplete is a long event of which parts are missing: a crash came between,
// or the log did not take them.
type Incomplete struct {
	At       Position // of the first part that is there
	ID       string
	Have, Of int // parts
}

// OpenIntent is a delivery without an end.
type OpenIntent struct {
	At  Position
	ID  string
	Age time.Duration
	// Overdue is set after ten minutes: the node was stopped in between, or
	// somebody keeps the end from being written.
	Overdue bool
}

// VerifiedEpoch is an epoch that verified, with what proofs are made of.
type VerifiedEpoch struct {
	EpochReport
	// Checkpoint is the last one in the file, over CheckpointSize events.
	Checkpoint     []byte
	CheckpointSize int64
	// VKey is the whole key that signed it.
	VKey string
	// Known are the checkpoints from elsewhere that it was held against.
	Known []Checkpoint
	// Before is what its first event says of the epoch before.
	Before Boundary
	// Hashes are its tree's, until the function returns that was given it.
	Hashes tlog.HashReader
}
