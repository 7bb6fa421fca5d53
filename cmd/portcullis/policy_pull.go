package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/bundle/registry"
)

// pullReport is the form of --output json: for machines, and stable.
type pullReport struct {
	vouchReport

	File string `json:"file"`
}

func (r pullReport) text(w io.Writer) {
	if r.Verified {
		r.vouchReport.text(w)
	} else {
		fmt.Fprintf(w, "pulled %s, and verified nothing\n", r.Bundle)
		r.examined.text(w)
	}
	fmt.Fprintf(w, "wrote %s\n", visible(r.File))
}

func pullMain(ctx context.Context, where string, o pullOptions) error {
	switch {
	case o.out == "":
		return &usageError{errors.New("--out is missing: it names the file to write")}
	case !registry.Is(where):
		return &usageError{fmt.Errorf("%q is no reference: it begins with %s", where, registry.Scheme)}
	case o.noVerify == o.trust.given():
		return &usageError{errors.New("give --key or --identity, or --no-verify, and not both")}
	}
	client, err := o.registry.client()
	if err != nil {
		return err
	}
	defer client.Close()
	var r pullReport
	p, err := pull(ctx, client, where)
	if err != nil {
		return err
	}
	if !o.noVerify {
		trust, err := o.trust.trust()
		if err != nil {
			return err
		}
		if r.vouchReport, err = verified(ctx, p.reference.String(), p.artifact, trust); err != nil {
			return err
		}
		if !r.Verified {
			if err := o.output.print(r, r.refusal); err != nil {
				return err
			}
			return errAnswerIsNo
		}
	} else if r.examined, err = examine(ctx, p.reference.String(), p.artifact, time.Now()); err != nil {
		return err
	}
	// What is written is what was read: a built bundle has one form only.
	if err := bundle.WriteFile(o.out, r.bundle, o.force); err != nil {
		if errors.Is(err, bundle.ErrExists) {
			return &hintedError{err, "choose another --out, or give --force"}
		}
		return err
	}
	r.File = o.out
	return o.output.print(r, r.text)
}

// openBundle reads a bundle to decide by on the command line: a directory, a file,
// or one in a registry, of which nothing is verified, and that is said.
func openBundle(ctx context.Context, path string) (policies.Bundle, error) {
	if !registry.Is(path) {
		return bundle.Open(path)
	}
	client, err := (&registryFlags{}).client()
	if err != nil {
		return policies.Bundle{}, err
	}
	defer client.Close()
	p, err := pull(ctx, client, path)
	if err != nil {
		return policies.Bundle{}, err
	}
	fmt.Fprintf(os.Stderr, "%s: nothing was verified of it; portcullis policy verify does\n", p.reference)
	return bundle.ReadTarball(bytes.NewReader(p.artifact.Tarball))
}
