package admin

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"time"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
	"github.com/portcullis-csi/portcullis/policies"
)

// SocketName is the name of the socket in the state directory.
const SocketName = "admin.sock"

var (
	// ErrGone says that what was asked for was deleted with its epoch.
	ErrGone = auditlog.ErrGone
	// ErrNotKept says that an input or a bundle is not kept any more, or never was.
	ErrNotKept = errors.New("not kept on this node")
	// ErrNoCandidate says that no candidate bundle decides beside the active one.
	ErrNoCandidate = errors.New("no candidate policy is compared; hint: start the plugin with --policy-shadow")
	// ErrBrokenOff says that an answer ended before its end.
	ErrBrokenOff = errors.New("the plugin's answer broke off; hint: see the plugin's log, then try again")
)

// Position is the place of an event in the log.
type Position = auditlog.Position

// before reports whether p comes before q.
func before(p, q Position) bool {
	return p.Epoch < q.Epoch || p.Epoch == q.Epoch && p.Index < q.Index
}

// Epoch is one epoch of a log.
type Epoch struct {
	Number int64     `json:"epoch"`
	Origin string    `json:"origin"` // in its checkpoints
	Size   int64     `json:"size"`   // number of events
	Root   string    `json:"root"`   // hexadecimal
	Bytes  int64     `json:"bytes"`  // of its file
	Closed bool      `json:"closed"`
	From   time.Time `json:"from,omitzero"` // of the first event
	To     time.Time `json:"to,omitzero"`   // of the last; absent while it is open
}

func epochOf(e auditlog.Epoch) Epoch {
	return Epoch{e.Number, e.Origin, e.Size, hex.EncodeToString(e.Root[:]), e.Bytes, e.Closed, e.From, e.To}
}

// Log is what the server reads: an open log, in which no reader makes the
// writer wait.
type Log interface {
	Epochs() ([]auditlog.Epoch, error)
	Follow(ctx context.Context, from Position, f func(auditlog.Leaf) error) error
	Snapshot(w io.Writer) (Position, error)
	Checkpoint() ([]byte, error)
	RotateKey(ctx context.Context) error
	VerifierKey() (string, error)
}

// Inputs is where inputs and bundles of recorded decisions are kept.
type Inputs interface {
	// Recorded gives f the decisions of the log, oldest first, each with its
	// input where that is kept.
	Recorded(ctx context.Context, f func(policies.Recorded) error) error
	// Input returns an input by the SHA-256 of its canonical text, or ErrNotKept.
	Input(sha256 string) ([]byte, error)
	// Bundle returns a bundle by its digest as tar.gz, or ErrNotKept.
	Bundle(digest string) ([]byte, error)
}

// Key is the answer to a key rotation.
type Key struct {
	VerifierKey string `json:"verifierKey"`
}
