package log

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
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

// loadKey returns the node's key, made on the first start.
func loadKey(dir *os.Root, origin string) (note.Signer, note.Verifier, error) {
	skey, err := readPrivate(dir, KeyFileName)
	if errors.Is(err, fs.ErrNotExist) {
		if skey, err = makeKey(dir, origin); err != nil {
			return nil, nil, fmt.Errorf("make node key: %w", err)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		return nil, nil, &DirectoryError{keyPath(dir), "is not a node key", "restore it, or move the whole directory away to begin a new log"}
	}
	if signer.Name() != origin {
		return nil, nil, &DirectoryError{keyPath(dir), fmt.Sprintf("is the key of log %q, not of %q", signer.Name(), origin), "start with the cluster and node name of before, or with another directory"}
	}
	vkey, err := publicKey(skey, origin)
	if err != nil {
		return nil, nil, err
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, nil, fmt.Errorf("read node key: %w", err)
	}
	return signer, verifier, publish(dir, vkey)
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

// publish keeps the file with the public key in line with the private one.
func publish(dir *os.Root, vkey string) error {
	have, err := dir.ReadFile(VKeyFileName)
	if err == nil && strings.TrimSpace(string(have)) == vkey {
		return nil
	}
	return writeFile(dir, VKeyFileName, vkey+"\n", publicMode)
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
	return moveIntoPlace(dir, name)
}

func moveIntoPlace(dir *os.Root, name string) error {
	if err := dir.Rename(name+unfinished, name); err != nil {
		return err
	}
	d, err := dir.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
