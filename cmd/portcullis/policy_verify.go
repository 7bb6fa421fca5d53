package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/portcullis-csi/portcullis/policies/bundle/registry"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
)

// vouchOptions are the flags of portcullis policy verify.
type vouchOptions struct {
	trust    trustFlags
	registry registryFlags
	output   output
}

func verifyBundleCommand() *cobra.Command {
	var o vouchOptions
	cmd := &cobra.Command{
		Use:   "verify BUNDLE --key FILE | --identity TEXT --trusted-root FILE",
		Short: "Verify who vouches for a policy bundle",
		Long: `verify answers as a node would, given the same keys: whether enough of those who may
sign have signed exactly this bundle, and whether it opens, compiles and has not
ended. It asks no network but the registry.

  portcullis policy verify bundle.tar.gz --key cosign.pub
  portcullis policy verify oci://registry.example/policy:stable --key a.pub --key b.pub \
      --signatures 2

A file's signatures lie beside it; those of a bundle in a registry are where cosign
puts them. A tag is resolved once, and the answer names the digest.

Exit code 0: vouched for. 1: failed, or the bundle is broken. 2: wrong usage.
3: not vouched for.`,
		Args: oneBundle("verify"),
		RunE: func(cmd *cobra.Command, args []string) error { return vouchMain(cmd.Context(), args[0], o) },
	}
	o.trust.add(cmd)
	o.registry.add(cmd)
	addOutput(cmd, &o.output)
	return cmd
}

// vouchReport is the form of --output json: for machines, and stable.
type vouchReport struct {
	examined

	Verified bool     `json:"verified"`
	Signers  []string `json:"signers"`
	Reason   string   `json:"reason,omitempty"`
	Problem  string   `json:"problem,omitempty"`
}

func (r vouchReport) text(w io.Writer) {
	fmt.Fprintf(w, "verified %s\n", visible(r.Bundle))
	r.examined.text(w)
	fmt.Fprintf(w, "  signers    %s\n", visible(strings.Join(r.Signers, ", ")))
}

func vouchMain(ctx context.Context, where string, o vouchOptions) error {
	trust, err := o.trust.trust()
	if err != nil {
		return err
	}
	var a signature.Artifact
	if registry.Is(where) {
		client, err := o.registry.client()
		if err != nil {
			return err
		}
		defer client.Close()
		p, err := pull(ctx, client, where)
		if err != nil {
			return err
		}
		a, where = p.artifact, p.reference.String()
	} else if a, err = artifactFile(ctx, where); err != nil {
		return err
	}
	r, err := verified(ctx, where, a, trust)
	if err != nil {
		return err
	}
	if !r.Verified {
		if err := o.output.print(r, r.refusal); err != nil {
			return err
		}
		return errAnswerIsNo
	}
	return o.output.print(r, r.text)
}

// verified asks the signatures first: what is not vouched for is not opened.
func verified(ctx context.Context, where string, a signature.Artifact, trust *signature.Trust) (vouchReport, error) {
	signed := a.Manifest
	if signed == nil {
		signed = a.Tarball
	}
	r := vouchReport{examined: examined{Bundle: where, Signed: sha256Of(signed)}, Signers: []string{}}
	found, err := trust.Verify(ctx, a)
	if refused, ok := errors.AsType[*signature.Error](err); ok && refused.Reason != signature.Interrupted {
		r.Reason, r.Problem = string(refused.Reason), refused.Error()
		r.Signers = append(r.Signers, refused.Signers...)
		return r, nil
	}
	if err != nil {
		return r, withHint(err)
	}
	if r.examined, err = examine(ctx, where, a, time.Now()); err != nil {
		return r, err
	}
	r.Verified, r.Signers = true, found.Signers
	return r, nil
}

// refusal is text without what only an opened bundle says.
func (r vouchReport) refusal(w io.Writer) {
	problem, hint, _ := splitHint(r.Problem)
	fmt.Fprintf(w, "NOT VERIFIED %s\n  signed     %s\n  reason     %s: %s\n", visible(r.Bundle), r.Signed, r.Reason, visible(problem))
	if hint != "" {
		fmt.Fprintf(w, "  hint       %s\n", visible(hint))
	}
}
