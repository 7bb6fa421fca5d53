package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/portcullis-csi/portcullis/policies/bundle/registry"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
)

// trustFlags say whose signatures count.
type trustFlags struct {
	keys, identities []string
	root             string
	threshold        int
}

func (f *trustFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVar(&f.keys, "key", nil, "file with a public key that may sign, once for each")
	flags.StringArrayVar(&f.identities, "identity", nil, "issuer, a space and the subject of a certificate that may sign, exactly")
	flags.StringVar(&f.root, "trusted-root", "", "file with Sigstore's trusted root, for --identity")
	flags.IntVar(&f.threshold, "signatures", 1, "how many of the signers have to sign, each a different one")
	_ = cmd.MarkFlagFilename("key", "pub", "pem")
	_ = cmd.MarkFlagFilename("trusted-root", "json")
}

func (f *trustFlags) given() bool { return len(f.keys)+len(f.identities) > 0 || f.root != "" }

// trust reads what the flags name.
func (f *trustFlags) trust() (*signature.Trust, error) {
	if len(f.keys)+len(f.identities) == 0 {
		return nil, &usageError{errors.New("neither --key nor --identity says who may sign")}
	}
	if f.threshold < 1 {
		return nil, &usageError{fmt.Errorf("--signatures %d is not at least 1", f.threshold)}
	}
	c := signature.Config{Threshold: f.threshold}
	for _, path := range f.keys {
		text, err := readShort(path)
		if err != nil {
			return nil, err
		}
		key, err := signature.ParseKey(text)
		if err != nil {
			return nil, withHint(fmt.Errorf("--key %q: %w", path, err))
		}
		c.Keys = append(c.Keys, key)
	}
	for _, text := range f.identities {
		issuer, subject, ok := strings.Cut(text, " ")
		if !ok || issuer == "" || subject == "" {
			return nil, &usageError{fmt.Errorf("--identity %q is not an issuer, a space and a subject", text)}
		}
		c.Identities = append(c.Identities, signature.Identity{Issuer: issuer, Subject: subject})
	}
	if f.root != "" {
		var err error
		if c.TrustedRoot, err = readShort(f.root); err != nil {
			return nil, err
		}
	}
	trust, err := signature.NewTrust(c)
	if err != nil {
		return nil, withHint(err)
	}
	return trust, nil
}

// registryFlags say how to reach a registry.
type registryFlags struct {
	config, ca, signatures string
	plainHTTP              bool
}

func (f *registryFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.config, "registry-config", "", "docker config.json with credentials; helpers in it are not run (default: the user's)")
	flags.StringVar(&f.ca, "registry-ca", "", "file with certificates to trust besides the system's")
	flags.StringVar(&f.signatures, "signature-repository", "", "host/repository where signatures are, too")
	flags.BoolVar(&f.plainHTTP, "registry-plain-http", false, "allow the registry to be without TLS; one on this machine always may")
}

func (f *registryFlags) client() (*registry.Client, error) {
	c := registry.Config{
		CredentialsFile: f.config, SignatureRepository: f.signatures, PlainHTTP: f.plainHTTP,
		UserAgent: "portcullis/" + version(), Proxy: http.ProxyFromEnvironment,
	}
	if c.CredentialsFile == "" {
		c.CredentialsFile = userCredentials()
	}
	if f.ca != "" {
		var err error
		if c.CA, err = readShort(f.ca); err != nil {
			return nil, err
		}
	}
	client, err := registry.New(c)
	if err != nil {
		return nil, withHint(err)
	}
	return client, nil
}

// userCredentials finds where docker login writes, "" if it has not.
func userCredentials() string {
	dir := os.Getenv("DOCKER_CONFIG")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		dir = filepath.Join(home, ".docker")
	}
	path := filepath.Join(dir, "config.json")
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}
