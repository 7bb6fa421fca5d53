package main_test

import (
	"os"
	"path/filepath"
	"testing"

	portcullis "github.com/portcullis-csi/portcullis/cmd/portcullis"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature/signaturetest"
)

// keylessBundle builds a bundle and returns its path, and what it holds.
func keylessBundle(t *testing.T) (path string, tarball []byte) {
	t.Helper()
	dir := t.TempDir()
	source, path := filepath.Join(dir, "policy"), filepath.Join(dir, "bundle.tar.gz")
	if err := os.Mkdir(source, 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(source, ".manifest"), []byte(`{"metadata": {"contract": "portcullis/v1"}}`))
	if code := portcullis.Run([]string{"policy", "build", source, "--out", path, "--serial", "7"}); code != 0 {
		t.Fatalf("policy build = %d, want 0", code)
	}
	tarball, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, tarball
}

func writeFile(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestPolicyVerifyKeyless: --identity names one issuer and one subject, exactly, and
// --trusted-root the Sigstore whose word counts.
func TestPolicyVerifyKeyless(t *testing.T) {
	const issuer, subject = "https://issuer.example", "release@example.com"
	own, other := signaturetest.NewAuthority(t), signaturetest.NewAuthority(t)
	path, tarball := keylessBundle(t)
	form := signaturetest.Form{Blob: true, Format: signature.FormatBundle}
	signed := own.Sign(t, signaturetest.Keyless{Identity: signature.Identity{Issuer: issuer, Subject: subject}}, form, form.Artifact(tarball))
	writeFile(t, path+".sigstore.json", signed.Bundle)
	dir := filepath.Dir(path)
	holds := signaturetest.Holds{Log: true, Timestamps: true}
	root, foreign, broken := filepath.Join(dir, "root.json"), filepath.Join(dir, "foreign.json"), filepath.Join(dir, "broken.json")
	writeFile(t, root, own.TrustedRoot(t, holds))
	writeFile(t, foreign, other.TrustedRoot(t, holds))
	writeFile(t, broken, []byte(`{"mediaType":"x"}`))
	key := signaturetest.NewSigner(t).Key()
	stranger := filepath.Join(dir, "stranger.pub")
	writeFile(t, stranger, key.PEM)
	changed := filepath.Join(dir, "changed.tar.gz")
	writeFile(t, changed, append(tarball[:len(tarball):len(tarball)], 0))
	writeFile(t, changed+".sigstore.json", signed.Bundle)
	for name, tt := range map[string]struct {
		bundle string
		flags  []string
		want   int
	}{
		"vouched for":            {path, []string{"--identity", issuer + " " + subject, "--trusted-root", root}, 0},
		"one of two":             {path, []string{"--identity", issuer + " other@example.com", "--identity", issuer + " " + subject, "--trusted-root", root}, 0},
		"beside a key":           {path, []string{"--key", stranger, "--identity", issuer + " " + subject, "--trusted-root", root}, 0},
		"for machines":           {path, []string{"--identity", issuer + " " + subject, "--trusted-root", root, "--output", "json"}, 0},
		"by a key alone":         {path, []string{"--key", stranger}, 3},
		"two are needed":         {path, []string{"--key", stranger, "--identity", issuer + " " + subject, "--trusted-root", root, "--signatures", "2"}, 3},
		"another subject":        {path, []string{"--identity", issuer + " other@example.com", "--trusted-root", root}, 3},
		"a part of the subject":  {path, []string{"--identity", issuer + " release@example", "--trusted-root", root}, 3},
		"a pattern":              {path, []string{"--identity", issuer + " .*", "--trusted-root", root}, 3},
		"a subject in uppercase": {path, []string{"--identity", issuer + " RELEASE@example.com", "--trusted-root", root}, 3},
		"another issuer":         {path, []string{"--identity", "https://issuer.example.evil " + subject, "--trusted-root", root}, 3},
		"an issuer with a slash": {path, []string{"--identity", issuer + "/ " + subject, "--trusted-root", root}, 3},
		"another Sigstore":       {path, []string{"--identity", issuer + " " + subject, "--trusted-root", foreign}, 3},
		"a changed bundle":       {changed, []string{"--identity", issuer + " " + subject, "--trusted-root", root}, 3},
		"no root":                {path, []string{"--identity", issuer + " " + subject}, 1},
		"a broken root":          {path, []string{"--identity", issuer + " " + subject, "--trusted-root", broken}, 1},
		"a root that is away":    {path, []string{"--identity", issuer + " " + subject, "--trusted-root", root + ".none"}, 1},
		"no subject":             {path, []string{"--identity", issuer, "--trusted-root", root}, 2},
		"an empty subject":       {path, []string{"--identity", issuer + " ", "--trusted-root", root}, 2},
		"an empty issuer":        {path, []string{"--identity", " " + subject, "--trusted-root", root}, 2},
		"a root for nobody":      {path, []string{"--trusted-root", root}, 2},
		"no signer is enough":    {path, []string{"--identity", issuer + " " + subject, "--trusted-root", root, "--signatures", "0"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			if got := portcullis.Run(append([]string{"policy", "verify", tt.bundle}, tt.flags...)); got != tt.want {
				t.Errorf("policy verify %v = exit code %d, want %d", tt.flags, got, tt.want)
			}
		})
	}
}
