package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
	"github.com/portcullis-csi/portcullis/audit/proof"
)

// proveOptions are the flags of portcullis audit prove.
type proveOptions struct {
	logOptions
	event string
	out   string
}

func proveCommand() *cobra.Command {
	var o proveOptions
	cmd := &cobra.Command{
		Use:   "prove --file DIR EVENT-ID|EPOCH/INDEX [--out FILE]",
		Short: "Write evidence that one event is in an audit log",
		Long: `prove verifies an audit log as portcullis audit verify does, and writes evidence of
one of its events: a small JSON file with the event, the hashes that lead to the
root of its epoch, and a checkpoint that the node signed. It holds nothing of any
other event, and whoever has the node's public key can check it.

  portcullis audit prove --file /var/lib/portcullis/audit 3/4242 --out evidence.json
  portcullis audit check-proof evidence.json --key kept/node.vkey

With --checkpoint the evidence is against the oldest of those checkpoints that
covers the event, so that whoever holds the same checkpoint knows that the log was
not made anew afterwards.

Exit code 0: written. 1: the log does not verify, or has no such event. 2: wrong usage.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &usageError{errors.New("give one event: its id, or EPOCH/INDEX")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.event = args[0]
			return proveMain(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	o.add(cmd)
	cmd.Flags().StringVar(&o.out, "out", "", "file to write, which must not be there yet (default: standard output)")
	return cmd
}

func proveMain(ctx context.Context, o proveOptions, out, progress io.Writer) error {
	in, err := o.read()
	if err != nil {
		return err
	}
	c := proof.ProveConfig{Path: o.file, VKey: in.vkey, Known: in.known, ID: o.event, Progress: newProgress(progress, "events verified:").at}
	if strings.Contains(o.event, "/") {
		if c.At, err = auditlog.ParsePosition(o.event); err != nil {
			return &usageError{hinted(err)}
		}
		c.ID = ""
	}
	evidence, err := proof.Prove(ctx, c)
	if err != nil {
		return hinted(err)
	}
	text, err := evidence.Encode()
	if err != nil {
		return err
	}
	if o.out == "" {
		_, err := out.Write(text)
		return err
	}
	return writeNew(o.out, text)
}

// writeNew writes a file that is not there yet.
func writeNew(name string, text []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return &hintedError{fmt.Errorf("%q is there already", name), "give another name with --out, or move it away"}
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}
