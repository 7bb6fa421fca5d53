package admin

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
)

// SocketName is the name of the socket in the state directory.
const SocketName = "admin.sock"

var (
	// ErrGone says that what was asked for was deleted with its epoch.
	ErrGone = errors.New("the epoch was deleted; hint: begin at one that audit epochs lists")
	// ErrNotKept says that an input or a bundle is not kept any more, or never was.
	ErrNotKept = errors.New("not kept on this node")
	// ErrBrokenOff says that an answer ended before its end.
	ErrBrokenOff = errors.New("the plugin's answer broke off; hint: see the plugin's log, then try again")
)

// Position is the place of an event: the number of its epoch, and its index
// there.
type Position struct {
	Epoch int64 `json:"epoch"`
	Index int64 `json:"index"`
}

// before reports whether p comes before q.
func (p Position) before(q Position) bool {
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
	From   time.Time `json:"from"` // of the first event
	To     time.Time `json:"to"`   // of the last
}

// Log is what the server reads. No reader may make its writer wait.
type Log interface {
	// Epochs returns the epochs that are kept, oldest first.
	Epochs() ([]Epoch, error)
	// Follow gives f every event from a position on, then each that comes, until
	// ctx ends or f fails. It returns ErrGone when it meets a deleted epoch.
	Follow(ctx context.Context, from Position, f func(at Position, leaf []byte) error) error
	// Snapshot writes a tar archive of consistent copies and public keys.
	Snapshot(w io.Writer) error
	// Checkpoint signs the log as it is now.
	Checkpoint() ([]byte, error)
	// RotateKey replaces the log's key.
	RotateKey(ctx context.Context) error
	// VerifierKey returns the public key.
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
