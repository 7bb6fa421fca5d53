package bundle

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/portcullis-csi/portcullis/policies"
)

// WithManifest returns the bundle under another manifest, and with the digest
// that its content then has.
func WithManifest(b policies.Bundle, m policies.Manifest) (policies.Bundle, error) {
	b.Manifest = m
	files, err := canonical(b)
	if err != nil {
		return policies.Bundle{}, err
	}
	b.Digest = digest(files)
	return b, nil
}

// canonical returns the one form in which a built bundle has this content. The
// digest covers it, so that a directory and the tarball made of it have the same:
// it identifies what decides, not how somebody wrote it down.
func canonical(b policies.Bundle) (map[string][]byte, error) {
	files := map[string][]byte{}
	for name, text := range b.Modules {
		files[name] = []byte(text)
	}
	data, ok := b.Data["portcullis"].(map[string]any)
	if !ok {
		return nil, errors.New("encode policy bundle: it has no data")
	}
	var err error
	if files[manifestFile], err = encodeManifest(b.Manifest); err != nil {
		return nil, err
	}
	for name, value := range map[string]any{configJSON: data["config"], grantsJSON: data["grants"], waiversJSON: data["waivers"]} {
		if files[name], err = encodeJSON(value); err != nil {
			return nil, err
		}
	}
	total := 0
	for name, text := range files {
		total += len(text)
		if len(text) > maxInTarball(name) {
			return nil, fmt.Errorf("policy file %q would be larger than %d bytes", name, maxInTarball(name))
		}
	}
	if total > maxBytes || len(files) > maxFiles {
		return nil, fmt.Errorf("policy bundle would hold more than %d bytes or %d files; hint: use prefixes in place of lists of secrets, or select namespaces by label", maxBytes, maxFiles)
	}
	return files, nil
}

// maxInTarball bounds one file of a built bundle. The index has a record under
// every key, so it is larger than what its author wrote.
func maxInTarball(name string) int {
	if name == grantsJSON || name == waiversJSON {
		return maxBytes
	}
	return maxFileBytes
}

// digest hashes paths and contents in the order of the paths, each behind its
// length, so that no two bundles share a digest.
func digest(files map[string][]byte) string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(h, "%d:%s%d:%s", len(name), name, len(files[name]), files[name])
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}
