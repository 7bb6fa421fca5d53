package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/portcullis-csi/portcullis/policies/bundle/registry"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
)

// signerFlags name a private key.
type signerFlags struct{ key, passphraseEnv, format string }

func (f *signerFlags) add(cmd *cobra.Command, usage string) {
	flags := cmd.Flags()
	flags.StringVar(&f.key, "key", "", usage)
	flags.StringVar(&f.passphraseEnv, "passphrase-env", "COSIGN_PASSWORD", "environment variable with the passphrase of the private key")
	flags.StringVar(&f.format, "format", string(signature.FormatBundle), "bundle, as cosign 3 writes signatures, or classic, as older ones do")
	_ = cmd.MarkFlagFilename("key", "key", "pem")
}

func (f *signerFlags) signer() (signature.Signer, error) {
	if f.key == "" {
		return signature.Signer{}, &usageError{errors.New("--key is missing: it names the file with the private key")}
	}
	if f.format != string(signature.FormatBundle) && f.format != string(signature.FormatClassic) {
		return signature.Signer{}, &usageError{fmt.Errorf("--format %q is neither %s nor %s", f.format, signature.FormatBundle, signature.FormatClassic)}
	}
	text, err := readShort(f.key)
	if err != nil {
		return signature.Signer{}, err
	}
	s, err := signature.LoadSigner(text, []byte(os.Getenv(f.passphraseEnv)))
	if err != nil {
		return signature.Signer{}, withHint(fmt.Errorf("--key %q: %w", f.key, err))
	}
	return s, nil
}

// signOptions are the flags of portcullis policy sign.
type signOptions struct {
	signer   signerFlags
	registry registryFlags
	out      string
	output   output
}

func signCommand() *cobra.Command {
	var o signOptions
	cmd := &cobra.Command{
		Use:   "sign BUNDLE --key FILE",
		Short: "Sign a policy bundle, as a file or in a registry",
		Long: `sign vouches for a built bundle with a private key: one of cosign, or PKCS #8 in PEM.
It opens and compiles the bundle first, and signs nothing that a node would refuse
for another reason. It asks no network but the registry, and logs to none.

  portcullis policy sign bundle.tar.gz --key cosign.key
  portcullis policy sign oci://registry.example/policy@sha256:... --key cosign.key

The signature of a file lies beside it, as bundle.tar.gz.sigstore.json, and those of
further signers as bundle.tar.gz.2.sigstore.json and so on; --format classic writes
bundle.tar.gz.sig. A bundle in a registry is named by its digest, and the signature
is attached where cosign looks for it. A signature of a file does not vouch for the
manifest in a registry, nor the reverse. The passphrase of an encrypted key is read
from the environment, by default COSIGN_PASSWORD.

Exit code 0: signed. 1: refused or failed. 2: wrong usage.`,
		Args: oneBundle("sign"),
		RunE: func(cmd *cobra.Command, args []string) error { return signMain(cmd.Context(), args[0], o) },
	}
	o.signer.add(cmd, "file with the private key (required)")
	cmd.Flags().StringVar(&o.out, "out", "", "file to write the signature to (default: beside the bundle)")
	o.registry.add(cmd)
	addOutput(cmd, &o.output)
	return cmd
}

func oneBundle(verb string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return &usageError{fmt.Errorf("%s takes one bundle, not %d arguments", verb, len(args))}
		}
		return nil
	}
}

// signReport is the form of --output json: for machines, and stable.
type signReport struct {
	examined

	Signer string `json:"signer"`
	File   string `json:"file,omitempty"` // the signature's
}

func (r signReport) text(w io.Writer) {
	fmt.Fprintf(w, "signed %s\n", visible(r.Bundle))
	r.examined.text(w)
	fmt.Fprintf(w, "  signer     %s\n", r.Signer)
	if r.File != "" {
		fmt.Fprintf(w, "  signature  %s\n", visible(r.File))
	}
}

func signMain(ctx context.Context, where string, o signOptions) error {
	s, err := o.signer.signer()
	if err != nil {
		return err
	}
	if !registry.Is(where) {
		return signFile(ctx, where, s, o)
	}
	if o.out != "" {
		return &usageError{errors.New("--out is for files: a signature in a registry is attached to the bundle")}
	}
	ref, err := registry.Parse(where)
	if err != nil {
		return &usageError{err}
	}
	if ref.Digest() == "" {
		return &usageError{fmt.Errorf("%s has no digest: a tag may be moved while you look at it; policy push prints the digest", ref)}
	}
	client, err := o.registry.client()
	if err != nil {
		return err
	}
	defer client.Close()
	p, err := pull(ctx, client, where)
	if err != nil {
		return err
	}
	e, err := examine(ctx, p.reference.String(), p.artifact, time.Now())
	if err != nil {
		return err
	}
	made, err := signature.Sign(ctx, s, p.artifact, signature.Format(o.signer.format))
	if err != nil {
		return withHint(err)
	}
	if err := client.Attach(ctx, p.reference, p.reference.Digest(), made); err != nil {
		return withHint(err)
	}
	r := signReport{e, s.Key().ID, ""}
	return o.output.print(r, r.text)
}

func signFile(ctx context.Context, path string, s signature.Signer, o signOptions) error {
	format := signature.Format(o.signer.format)
	content, err := readTarball(path)
	if err != nil {
		return err
	}
	a := signature.Artifact{Tarball: content}
	e, err := examine(ctx, path, a, time.Now())
	if err != nil {
		return err
	}
	made, err := signature.Sign(ctx, s, a, format)
	if err != nil {
		return withHint(err)
	}
	text := made.Bundle
	if text == nil {
		text = []byte(made.Base64)
	}
	name, err := writeSignature(path, o.out, format, text)
	if err != nil {
		return err
	}
	r := signReport{e, s.Key().ID, name}
	return o.output.print(r, r.text)
}

// writeSignature writes to the first name that is free: no signer overwrites what
// another one wrote.
func writeSignature(path, out string, format signature.Format, text []byte) (string, error) {
	names := []string{out}
	if out == "" {
		for _, name := range sideFiles(path) {
			if strings.HasSuffix(name, ".sig") == (format == signature.FormatClassic) {
				names = append(names, name)
			}
		}
		names = names[1:]
	}
	for _, name := range names {
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // signatures are public
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("write signature: %w", err)
		}
		_, err = f.Write(append(text, '\n'))
		if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
			return "", errors.Join(fmt.Errorf("write signature: %w", err), os.Remove(name))
		}
		return name, nil
	}
	return "", &hintedError{fmt.Errorf("signature %q is there already", names[len(names)-1]), "remove signatures of earlier content or of keys that are out of use"}
}

func sha256Of(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}
