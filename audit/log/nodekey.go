package log

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"golang.org/x/mod/sumdb/note"
)

const maxKeyBytes = 4 << 10

// An origin names the log in every checkpoint; note forbids spaces and plus
// signs in it.
var originPattern = regexp.MustCompile(`^[A-Za-z0-9][-A-Za-z0-9._/]{0,199}$`)

// nodeKey is the key of a log, and what was found of it.
type nodeKey struct {
	signer   note.Signer
	verifier note.Verifier
	found    bool   // some of it was there before
	aside    string // where a public key went that is not its own
}

// loadKey returns the node's key, made on the first start. Beside a log, a new
// key would disown all that the old one signed.
func loadKey(dir *os.Root, origin string, haveLog bool) (k nodeKey, err error) {
	skey, err := readPrivate(dir, KeyFileName)
	missing := errors.Is(err, fs.ErrNotExist)
	switch {
	case missing && haveLog:
		return k, &DirectoryError{keyPath(dir), "is missing, and the log beside it was signed with it", "restore it, or move the whole directory away as evidence to begin a new log"}
	case missing:
		if skey, err = makeKey(dir, origin); err != nil {
			return k, fmt.Errorf("make node key: %w", err)
		}
	case err != nil:
		return k, err
	}
	if k.signer, err = note.NewSigner(skey); err != nil {
		return k, &DirectoryError{keyPath(dir), "is not a node key", "restore it, or move the whole directory away to begin a new log"}
	}
	if name := k.signer.Name(); name != origin {
		return k, &DirectoryError{keyPath(dir), fmt.Sprintf("is the key of log %q, not of %q", name, origin), "start with the cluster and node name of before, or with another directory"}
	}
	vkey, err := publicKey(skey, origin)
	if err != nil {
		return k, err
	}
	if k.verifier, err = note.NewVerifier(vkey); err != nil {
		return k, fmt.Errorf("read node key: %w", err)
	}
	if k.aside, err = setAside(dir, vkey); err != nil {
		return k, fmt.Errorf("set public key aside: %w", err)
	}
	k.found = !missing || k.aside != ""
	return k, publish(dir, vkey)
}

func keyPath(dir *os.Root) string { return filepath.Join(dir.Name(), KeyFileName) }

func makeKey(dir *os.Root, origin string) (string, error) {
	skey, _, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return "", err
	}
	return skey, writeFile(dir, KeyFileName, skey+"\n", fileMode)
}

// publicKey derives the verifier key: the form of an encoded private key is
// PRIVATE+KEY+<name>+<hash>+<base64 of algorithm and seed> (package note).
func publicKey(skey, origin string) (string, error) {
	parts := strings.SplitN(skey, "+", 5) // base64 has plus signs of its own, an origin has none
	seed, err := base64.StdEncoding.DecodeString(parts[len(parts)-1])
	if err != nil || len(seed) != 1+ed25519.SeedSize {
		return "", errors.New("read node key: no seed")
	}
	public, ok := ed25519.NewKeyFromSeed(seed[1:]).Public().(ed25519.PublicKey)
	if !ok {
		return "", errors.New("read node key: not Ed25519")
	}
	return note.NewEd25519VerifierKey(origin, public)
}

// setAside renames a public key that is not this one: it may be what proves an
// earlier log. The name follows from the content, so that nothing is replaced.
func setAside(dir *os.Root, vkey string) (name string, err error) {
	have, err := readSmall(dir, VKeyFileName)
	if errors.Is(err, fs.ErrNotExist) || err == nil && (len(have) == 0 || have == vkey) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(have))
	name = VKeyFileName + "." + hex.EncodeToString(sum[:8])
	return name, dir.Rename(VKeyFileName, name)
}

// publish keeps the file with the public key in line with the private one.
func publish(dir *os.Root, vkey string) error {
	if have, err := readSmall(dir, VKeyFileName); err == nil && have == vkey {
		return nil
	}
	return writeFile(dir, VKeyFileName, vkey+"\n", publicMode)
}

func readSmall(dir *os.Root, name string) (string, error) {
	f, err := openPlain(dir, name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKeyBytes))
	return strings.TrimSpace(string(text)), err
}

// readPrivate reads a small file that nobody else may read or replace.
func readPrivate(dir *os.Root, name string) (string, error) {
	f, err := openPlain(dir, name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", fmt.Errorf("open %s: %w", name, err)
	}
	defer f.Close()
	if err := checkPrivate(f, fileMode); err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyBytes))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	return strings.TrimSpace(string(text)), nil
}

// writeFile makes the file whole or not at all, also when the power fails.
func writeFile(dir *os.Root, name, text string, mode fs.FileMode) error {
	if err := writeUnfinished(dir, name, text, mode); err != nil {
		return err
	}
	return moveIntoPlace(dir, name)
}

// writeUnfinished writes the file under the name that it has until it is whole.
func writeUnfinished(dir *os.Root, name, text string, mode fs.FileMode) error {
	if err := dir.Remove(name + unfinished); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := dir.OpenFile(name+unfinished, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return syncDirectory(dir)
}

func moveIntoPlace(dir *os.Root, name string) error {
	if err := dir.Rename(name+unfinished, name); err != nil {
		return err
	}
	return syncDirectory(dir)
}

// syncDirectory has the disk know which names there are.
func syncDirectory(dir *os.Root) error {
	d, err := dir.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
