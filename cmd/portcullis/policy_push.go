package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/portcullis-csi/portcullis/policies/bundle/registry"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
)

// pushOptions are the flags of portcullis policy push.
type pushOptions struct {
	signer   signerFlags
	registry registryFlags
	output   output
}

func pushCommand() *cobra.Command {
	var o pushOptions
	cmd := &cobra.Command{
		Use:   "push FILE oci://HOST/REPOSITORY:TAG",
		Short: "Publish a policy bundle in a registry",
		Long: `push writes a built bundle to an OCI registry, in the form that stock OPA pulls, and
prints the reference by digest, which is what to sign and to pin. Equal bundles have
equal digests.

  portcullis policy push bundle.tar.gz oci://registry.example/policy:42 --key cosign.key

Signatures beside the file do not come along: they vouch for the file, and in a
registry the manifest is signed. With --key push signs it, and moves the tag only
when the signature is there, so that nobody who follows the tag finds the bundle
unsigned. Without --key it moves the tag alone: signatures that the registry has of an
equal bundle count on, and further ones are made with portcullis policy sign and the
printed reference.

Exit code 0: published. 1: refused or failed. 2: wrong usage.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return &usageError{fmt.Errorf("push takes a file and a reference, not %d arguments", len(args))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return pushMain(cmd.Context(), args[0], args[1], o) },
	}
	o.signer.add(cmd, "file with the private key to sign with (default: the bundle is not signed)")
	o.registry.add(cmd)
	addOutput(cmd, &o.output)
	return cmd
}

// pushReport is the form of --output json: for machines, and stable.
type pushReport struct {
	examined

	Reference string `json:"reference"`
	Tag       string `json:"tag,omitempty"`
	Signer    string `json:"signer,omitempty"`
	// Signatures is how many the registry had already, where push made none.
	Signatures int `json:"signatures,omitempty"`
	unseen     error
}

func (r pushReport) text(w io.Writer) {
	fmt.Fprintf(w, "pushed %s\n", r.Reference)
	r.examined.text(w)
	if r.Tag != "" {
		fmt.Fprintf(w, "  tag        %s\n", r.Tag)
	}
	switch {
	case r.Signer != "":
		fmt.Fprintf(w, "  signer     %s\n", r.Signer)
	case r.unseen != nil:
		fmt.Fprintf(w, "not signed by this push, and earlier signatures cannot be read: %s\n", visible(r.unseen.Error()))
	case r.Signatures > 0:
		fmt.Fprintf(w, "signatures from before: %d; portcullis policy verify %s says whose\n", r.Signatures, r.Reference)
	default:
		fmt.Fprintf(w, "not signed: portcullis policy sign %s --key FILE\n", r.Reference)
	}
}

func pushMain(ctx context.Context, path, where string, o pushOptions) error {
	ref, err := registry.Parse(where)
	if err != nil {
		return &usageError{err}
	}
	var signer *signature.Signer
	if o.signer.key != "" {
		s, err := o.signer.signer()
		if err != nil {
			return err
		}
		signer = &s
	}
	content, err := readTarball(path)
	if err != nil {
		return err
	}
	e, err := examine(ctx, path, signature.Artifact{Tarball: content}, time.Now())
	if err != nil {
		return err
	}
	client, err := o.registry.client()
	if err != nil {
		return err
	}
	defer client.Close()
	r, err := publication{client, ref, signer, signature.Format(o.signer.format)}.publish(ctx, e)
	if err != nil {
		return withHint(err)
	}
	return o.output.print(r, r.text)
}

// publication is where a bundle goes, and who signs it.
type publication struct {
	client *registry.Client
	ref    registry.Reference
	signer *signature.Signer // nil: nobody
	format signature.Format
}

// publish pushes by digest, signs, and moves the tag last.
func (p publication) publish(ctx context.Context, e examined) (pushReport, error) {
	client, ref, s := p.client, p.ref, p.signer
	content, notes := e.signature.Tarball, map[string]string{"org.opencontainers.image.version": strconv.FormatInt(e.Serial, 10)}
	if e.commit != "" {
		notes["org.opencontainers.image.revision"] = e.commit
	}
	manifest, digest, err := registry.Manifest(content, notes)
	if err != nil {
		return pushReport{}, err
	}
	if ref.Digest() != "" && ref.Digest() != digest {
		return pushReport{}, fmt.Errorf("the bundle has digest %s and not that of %s; hint: leave the digest out", digest, ref)
	}
	at := ref.WithDigest(digest)
	if _, err := client.Push(ctx, at, content, notes); err != nil {
		return pushReport{}, err
	}
	e.Bundle, e.Signed = at.String(), digest
	r := pushReport{examined: e, Reference: at.String(), Tag: ref.Tag()}
	if s != nil {
		made, err := signature.Sign(ctx, *s, signature.Artifact{Tarball: content, Manifest: manifest}, p.format)
		if err == nil {
			err = client.Attach(ctx, at, digest, made)
		}
		if err != nil {
			return pushReport{}, fmt.Errorf("%w (the bundle is there as %s, and the tag was not moved)", err, at)
		}
		r.Signer = s.Key().ID
	} else {
		there, err := client.Pull(ctx, at, digest)
		r.Signatures, r.unseen = len(there.Signatures), err
	}
	if ref.Tag() != "" {
		if _, err := client.Push(ctx, ref, content, notes); err != nil {
			return pushReport{}, err
		}
	}
	return r, nil
}

// pullOptions are the flags of portcullis policy pull.
type pullOptions struct {
	trust    trustFlags
	noVerify bool
	out      string
	force    bool
	registry registryFlags
	output   output
}

func pullCommand() *cobra.Command {
	var o pullOptions
	cmd := &cobra.Command{
		Use:   "pull oci://HOST/REPOSITORY:TAG --out FILE --key FILE",
		Short: "Fetch a policy bundle from a registry into a file",
		Long: `pull fetches a bundle, verifies who vouches for it, and writes it to a file.

  portcullis policy pull oci://registry.example/policy:stable --key cosign.pub \
      --out bundle.tar.gz

What the registry's signatures vouch for is the manifest, and not the file that is
written: a node that is to read the file needs a signature of it (portcullis policy
sign FILE). --no-verify writes what the registry has, whoever made it.

Exit code 0: written. 1: failed, or the bundle is broken. 2: wrong usage.
3: not vouched for, and not written.`,
		Args: oneBundle("pull"),
		RunE: func(cmd *cobra.Command, args []string) error { return pullMain(cmd.Context(), args[0], o) },
	}
	o.trust.add(cmd)
	f := cmd.Flags()
	f.BoolVar(&o.noVerify, "no-verify", false, "write it whoever made it")
	f.StringVar(&o.out, "out", "", "file to write, a tar.gz (required)")
	f.BoolVar(&o.force, "force", false, "overwrite the file")
	o.registry.add(cmd)
	addOutput(cmd, &o.output)
	return cmd
}
