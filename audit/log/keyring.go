package log

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// maxKeys is far beyond the rotations that a node's log holds.
const maxKeys = 64

// keyID is how a signature names its key.
type keyID struct {
	name string
	hash uint32
}

func (id keyID) String() string { return fmt.Sprintf("%s+%08x", id.name, id.hash) }

// keyring holds the keys that may have signed a log: those that the caller
// trusts, and those that rotations in the log name, which are claims until the
// rotation itself is proved.
type keyring struct {
	name    string
	trusted []keyID
	byID    map[keyID]verifierKey
}

// verifierKey is a key as it was written, and what it verifies with.
type verifierKey struct {
	note.Verifier
	text string
}

// newKeyring reads verifier keys of one node, one a line.
func newKeyring(text string) (*keyring, error) {
	k := &keyring{byID: map[keyID]verifierKey{}}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		v, err := note.NewVerifier(line)
		switch {
		case err != nil:
			return nil, fmt.Errorf("read verifier key: %w; hint: give the content of %s", err, VKeyFileName)
		case !originPattern.MatchString(v.Name()): // it is shown, and may come from beside the log
			return nil, fmt.Errorf("read verifier key: %q is not the name of a node; hint: give the content of %s", v.Name(), VKeyFileName)
		case k.name != "" && k.name != v.Name():
			return nil, fmt.Errorf("read verifier key: keys of %q and of %q; hint: give keys of one node", k.name, v.Name())
		case len(k.trusted) == maxKeys:
			return nil, fmt.Errorf("read verifier key: more than %d; hint: give one, rotations are followed", maxKeys)
		}
		k.name = v.Name()
		id := idOf(v)
		if !slices.Contains(k.trusted, id) {
			k.trusted = append(k.trusted, id)
		}
		k.byID[id] = verifierKey{v, line}
	}
	if k.name == "" {
		return nil, fmt.Errorf("read verifier key: none; hint: give the content of %s", VKeyFileName)
	}
	return k, nil
}

func idOf(v note.Verifier) keyID { return keyID{v.Name(), v.KeyHash()} }

var errOtherKey = errors.New("key is of another log")

// claim adds a key that a rotation names. One whose short hash is that of a key
// which is there already never takes its place: such a key can be searched for.
func (k *keyring) claim(text string) (keyID, error) {
	v, err := note.NewVerifier(text)
	if err != nil {
		return keyID{}, err
	}
	id := idOf(v)
	if id.name != k.name {
		return keyID{}, errOtherKey
	}
	if _, ok := k.byID[id]; !ok {
		k.byID[id] = verifierKey{v, text}
	}
	return id, nil
}

// Verifier finds a key for note.Open.
func (k *keyring) Verifier(name string, hash uint32) (note.Verifier, error) {
	if v, ok := k.byID[keyID{name, hash}]; ok {
		return v.Verifier, nil
	}
	return nil, &note.UnknownVerifierError{Name: name, KeyHash: hash}
}

// text returns a key as it was written.
func (k *keyring) text(id keyID) string { return k.byID[id].text }
