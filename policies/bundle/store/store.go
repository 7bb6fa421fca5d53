package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
)

const (
	stateFile  = "state.json"
	bundleFile = "bundle"
	nextSuffix = ".next"

	maxStateBytes  = 64 << 10
	maxTarball     = 32 << 20
	maxHeaderBytes = 2 * (signature.MaxManifestBytes + signature.MaxSignatures*signature.MaxSignatureBytes)
)

// ErrDamaged is returned for a file that is there and is not what was written.
var ErrDamaged = errors.New("damaged; hint: somebody else wrote it, or the disk fails: find out, then remove it")

// Mark is a serial and the content that had it.
type Mark struct {
	Serial int64  `json:"serial,omitempty"`
	Digest string `json:"digest,omitempty"` // sha256:<hex>, "" where it is not known
}

// Emergency is the break-glass bundle that was accepted last. None with this
// serial or a lower one is accepted again, but for itself until its end.
type Emergency struct {
	Mark

	End time.Time `json:"end,omitzero"`
	// Left is how long it may be in force yet, whatever the clock says. It is written
	// before it is used up.
	Left time.Duration `json:"left,omitempty"`
	Over bool          `json:"over,omitempty"` // it ended before that
}

// State is what judges the next bundle. The zero State knows nothing.
type State struct {
	Floor     Mark      `json:"floor,omitzero"` // of the highest serial that was in force
	Time      time.Time `json:"time,omitzero"`  // no earlier than this can it be now
	Emergency Emergency `json:"emergency,omitzero"`
}

// Kept is the last good bundle. Nothing of it is verified.
type Kept struct {
	Version  string // how its source named this state of it
	Artifact signature.Artifact
}

// Config says where a Store is.
type Config struct {
	// Dir is private to the user of the process, and there. Required.
	Dir string
	// Step is called between two effects on the disk, and where it fails nothing
	// follows: tests have the process die there. It may be nil.
	Step func(name string) error
}

// Store is the directory. It is not safe for concurrent use.
type Store struct {
	dir  *os.Root
	step func(string) error
}

// Open opens the directory.
func Open(c Config) (*Store, error) {
	dir, err := os.OpenRoot(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("open directory of policy state: %w", err)
	}
	if c.Step == nil {
		c.Step = func(string) error { return nil }
	}
	return &Store{dir, c.Step}, nil
}

// Close closes the directory.
func (s *Store) Close() error { return s.dir.Close() }

// State reads the state: fs.ErrNotExist where there is none, as at a first start.
func (s *Store) State() (State, error) {
	var state State
	text, err := s.read(stateFile, maxStateBytes)
	if err != nil {
		return State{}, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&state); err != nil || state.Floor.Serial < 0 || state.Emergency.Serial < 0 || state.Emergency.Left < 0 {
		return State{}, fmt.Errorf("read policy state: %w", ErrDamaged)
	}
	return state, nil
}

// KeepState replaces the state.
func (s *Store) KeepState(state State) error {
	text, err := json.Marshal(state)
	if err != nil {
		return fmt.Errorf("write policy state: %w", err)
	}
	return s.write(stateFile, text)
}

// header is the first line of the file of a bundle; the tarball follows.
type header struct {
	Version    string                `json:"version"`
	Manifest   []byte                `json:"manifest,omitempty"`
	Signatures []signature.Signature `json:"signatures"`
}

// Bundle reads the last good bundle: fs.ErrNotExist where there is none.
func (s *Store) Bundle() (Kept, error) {
	text, err := s.read(bundleFile, maxTarball+maxHeaderBytes)
	if err != nil {
		return Kept{}, err
	}
	first, tarball, found := bytes.Cut(text, []byte("\n"))
	var h header
	if !found || len(first) > maxHeaderBytes || json.Unmarshal(first, &h) != nil {
		return Kept{}, fmt.Errorf("read kept policy bundle: %w", ErrDamaged)
	}
	a := signature.Artifact{Tarball: tarball, Manifest: h.Manifest, Signatures: h.Signatures}
	if err := Bounded(a); err != nil {
		return Kept{}, fmt.Errorf("read kept policy bundle: %w", err)
	}
	return Kept{h.Version, a}, nil
}

// KeepBundle replaces the last good bundle.
func (s *Store) KeepBundle(k Kept) error {
	if err := Bounded(k.Artifact); err != nil {
		return fmt.Errorf("keep policy bundle: %w", err)
	}
	first, err := json.Marshal(header{k.Version, k.Artifact.Manifest, k.Artifact.Signatures})
	if err != nil {
		return fmt.Errorf("keep policy bundle: %w", err)
	}
	return s.write(bundleFile, first, []byte("\n"), k.Artifact.Tarball)
}

// Bounded refuses an artifact that is larger than a bundle and its signatures may
// be, before anything of it is looked at.
func Bounded(a signature.Artifact) error {
	switch {
	case len(a.Tarball) > maxTarball:
		return fmt.Errorf("more than %d bytes", maxTarball)
	case len(a.Manifest) > signature.MaxManifestBytes:
		return fmt.Errorf("its manifest has more than %d bytes", signature.MaxManifestBytes)
	case len(a.Signatures) > signature.MaxSignatures:
		return fmt.Errorf("more than %d signatures", signature.MaxSignatures)
	}
	for _, one := range a.Signatures {
		if len(one.Bundle)+len(one.Base64)+len(one.Payload)+len(one.Certificate)+len(one.Chain)+len(one.RekorBundle)+len(one.Timestamp) > signature.MaxSignatureBytes {
			return fmt.Errorf("a signature has more than %d bytes", signature.MaxSignatureBytes)
		}
	}
	return nil
}

// Absent reports whether there was nothing to read.
func Absent(err error) bool { return errors.Is(err, fs.ErrNotExist) }
