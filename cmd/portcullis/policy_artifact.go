package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/bundle/registry"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
)

// maxShortFile bounds keys, signatures, roots and certificates.
const maxShortFile = 1 << 20

func readShort(path string) ([]byte, error) { return readRegular(path, maxShortFile) }

// readRegular reads a file within a bound. A FIFO would block for ever.
func readRegular(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %q: it is not a file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("read %q: longer than %d bytes", path, most)
	}
	return text, errors.Join(err, f.Close())
}

// readTarball reads a built bundle.
func readTarball(path string) ([]byte, error) {
	if err := noDirectory(path); err != nil {
		return nil, err
	}
	return readRegular(path, registry.MaxBundleBytes)
}

func noDirectory(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return &hintedError{fmt.Errorf("%q is a directory", path), "build it with portcullis policy build: what is signed and published is a file"}
	}
	return nil
}

// sideFiles are where signatures of a bundle file lie, one each.
func sideFiles(path string) []string {
	names := []string{path + ".sigstore.json"}
	for i := 2; i <= 9; i++ {
		names = append(names, fmt.Sprintf("%s.%d.sigstore.json", path, i))
	}
	return append(names, path+".sig")
}

// artifactFile reads a bundle file with the signatures beside it, as a node does.
func artifactFile(ctx context.Context, path string) (signature.Artifact, error) {
	if err := noDirectory(path); err != nil {
		return signature.Artifact{}, err
	}
	file := bundle.File(path)
	version, err := file.Resolve(ctx)
	if err != nil {
		return signature.Artifact{}, withHint(err)
	}
	a, err := file.Fetch(ctx, version)
	if err != nil {
		return a, withHint(err)
	}
	return a, nil
}

// pulled is a bundle from a registry.
type pulled struct {
	artifact  signature.Artifact
	reference registry.Reference // by digest
}

func pull(ctx context.Context, client *registry.Client, text string) (pulled, error) {
	ref, err := registry.Parse(text)
	if err != nil {
		return pulled{}, &usageError{err}
	}
	digest, err := client.Resolve(ctx, ref)
	if err != nil {
		return pulled{}, withHint(err)
	}
	a, err := client.Pull(ctx, ref, digest)
	if err != nil {
		return pulled{}, withHint(err)
	}
	return pulled{a, ref.WithDigest(digest)}, nil
}

// examined is a bundle that a node could put in force, but for its signatures.
type examined struct {
	Bundle    string    `json:"bundle"` // file, or reference by digest
	Digest    string    `json:"digest"`
	Serial    int64     `json:"serial"`
	Revision  string    `json:"revision,omitempty"`
	NotAfter  time.Time `json:"notAfter"`
	Signed    string    `json:"signedDigest"` // of what signatures are of: manifest or file
	bundle    policies.Bundle
	commit    string
	signature signature.Artifact
}

// maxLifetime is how far off the end of a bundle may be.
const maxLifetime = 90 * 24 * time.Hour

// examine opens and compiles a bundle as a node does.
func examine(ctx context.Context, where string, a signature.Artifact, now time.Time) (examined, error) {
	b, err := bundle.ReadTarball(bytes.NewReader(a.Tarball))
	if err != nil {
		return examined{}, policyError(where, err)
	}
	if _, err := policies.Compile(ctx, b, policies.Options{Budget: cliBudget, Clock: func() time.Time { return now }}); err != nil {
		return examined{}, policyError(where, err)
	}
	m := b.Manifest
	var problem string
	switch {
	case m.Serial <= 0:
		problem = "has no serial"
	case m.NotAfter.IsZero():
		problem = "has no not_after"
	case !now.Before(m.NotAfter):
		problem = "ended at " + m.NotAfter.UTC().Format(time.RFC3339)
	case m.NotAfter.Sub(now) > maxLifetime:
		problem = "ends more than 90 days from now"
	}
	if problem != "" {
		return examined{}, &hintedError{fmt.Errorf("bundle %q %s", where, problem), "build it again with portcullis policy build, a serial above every one before, and an end at most 90 days off"}
	}
	signed := a.Manifest
	if signed == nil {
		signed = a.Tarball
	}
	return examined{
		Bundle: where, Digest: b.Digest, Serial: m.Serial, Revision: m.Revision, NotAfter: m.NotAfter,
		Signed: sha256Of(signed), bundle: b, commit: m.SourceCommit, signature: a,
	}, nil
}

func (e examined) text(w io.Writer) {
	fmt.Fprintf(w, "  digest     %s\n", e.Digest)
	fmt.Fprintf(w, "  serial     %d\n", e.Serial)
	fmt.Fprintf(w, "  not after  %s\n", e.NotAfter.Format(time.RFC3339))
	what := "file"
	if strings.HasPrefix(e.Bundle, registry.Scheme) {
		what = "manifest"
	}
	fmt.Fprintf(w, "  %-10s %s\n", what, e.Signed)
}
