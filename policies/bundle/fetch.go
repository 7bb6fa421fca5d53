package bundle

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
)

// File is the Fetcher of a tarball with its signatures beside it, as cosign
// sign-blob writes them: .sigstore.json, .2.sigstore.json to .9.sigstore.json, .sig.
type File string

// Resolve reads all of it: nothing less tells whether it has changed.
func (f File) Resolve(ctx context.Context) (string, error) {
	a, err := f.read(ctx)
	if err != nil {
		return "", err
	}
	return versionOf(a)
}

// Fetch reads it again, and refuses what was written in between.
func (f File) Fetch(ctx context.Context, version string) (signature.Artifact, error) {
	a, err := f.read(ctx)
	if err != nil {
		return signature.Artifact{}, err
	}
	now, err := versionOf(a)
	if err == nil && now != version {
		err = fmt.Errorf("%q changed while it was read; hint: the next look reads it whole; put files in place with mv, the signatures first", string(f))
	}
	return a, err
}

func (f File) read(ctx context.Context) (a signature.Artifact, err error) {
	if err := ctx.Err(); err != nil {
		return a, err
	}
	if a.Tarball, err = readBounded(string(f), maxBytes); err != nil {
		return a, err
	}
	names := []string{string(f) + ".sigstore.json"}
	for i := 2; i <= 9; i++ {
		names = append(names, fmt.Sprintf("%s.%d.sigstore.json", string(f), i))
	}
	for _, name := range names {
		text, err := readBounded(name, signature.MaxSignatureBytes)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return a, err
		}
		a.Signatures = append(a.Signatures, signatureOf(text))
	}
	text, err := readBounded(string(f)+".sig", signature.MaxSignatureBytes)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return a, err
	default:
		a.Signatures = append(a.Signatures, signatureOf(text))
	}
	return a, nil
}

// signatureOf reads a file beside the tarball. What is none is left to who verifies:
// one file that is broken does not take the others' word away.
func signatureOf(text []byte) signature.Signature {
	s, err := signature.ParseFile(text)
	if err != nil {
		return signature.Signature{Bundle: text}
	}
	return s
}

// readBounded reads a regular file. A link is followed, since a ConfigMap is mounted
// as links.
func readBounded(name string, most int64) ([]byte, error) {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular(): // a FIFO would block for ever
		return nil, fmt.Errorf("%q is not a file", name)
	}
	file, err := os.Open(name) //nolint:gosec // whoever configures names it
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(file, most+1))
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	if int64(len(text)) > most {
		return nil, fmt.Errorf("%q has more than %d bytes", name, most)
	}
	return text, nil
}

// versionOf names content and signatures.
func versionOf(a signature.Artifact) (string, error) {
	h := sha256.New()
	if err := json.NewEncoder(h).Encode(a); err != nil {
		return "", fmt.Errorf("name artifact: %w", err)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}
