package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

// verifyOptions are the flags of portcullis audit verify.
type verifyOptions struct {
	logOptions
	output output
}

func verifyCommand() *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use:   "verify [--file DIR|EPOCH.db] [--key node.vkey] [--checkpoint FILE]",
		Short: "Check that an audit log is complete and unaltered",
		Long: `verify takes a snapshot of the log of the plugin that runs on this node and checks
that, as root; or, with --file, it reads the directory of a node whose plugin is
stopped, a copy of it, or the file of a single epoch. It recomputes the Merkle tree
over every event, compares it with every signed checkpoint, and checks that every
epoch begins with what the one before ended with.

  portcullis audit verify --key kept/node.vkey
  portcullis audit verify --file copy --key kept/node.vkey --checkpoint kept/checkpoints

A log that was altered, cut or reordered up to its last checkpoint is refused, and
so is one with more unsigned events after it than a crash leaves, and one with an
epoch missing in the middle or at the end. The first line says of how many events
that is true: the log of a plugin that was killed may have a few more, which whoever
can write the file could have made up. It also says which epochs are deleted before
the oldest one that is there.
Two things only others can tell: that the whole log was put back to an earlier
state of itself, or was newly made with the node's key, for which give --checkpoint
checkpoints that were kept elsewhere; and that the key itself was replaced, for
which give --key a copy of node.vkey that was kept elsewhere. It may be older than
the log: rotations of the key are followed, and refused unless both keys signed.

Exit code 0: verified. 1: altered, damaged or not readable. 2: wrong usage.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.on(cmd, func(ctx context.Context) error { return verifyMain(ctx, o, cmd.ErrOrStderr()) })
		},
	}
	o.add(cmd)
	addOutput(cmd, &o.output)
	return cmd
}

func verifyMain(ctx context.Context, o verifyOptions, progress io.Writer) error {
	in, err := o.read()
	if err != nil {
		return err
	}
	report, err := auditlog.Verify(ctx, auditlog.VerifyConfig{
		Path: o.file, VKey: in.vkey, Known: in.known, Progress: newProgress(progress, "events verified:").at,
	})
	if err != nil {
		return hinted(err)
	}
	return o.output.print(jsonReport(report), func(w io.Writer) { printReport(w, o, report) })
}

// progressEvery keeps a long verification from looking like a hanging one.
const progressEvery = 2 * time.Second

func printReport(w io.Writer, o verifyOptions, r auditlog.Report) {
	fmt.Fprintf(w, "OK: %s\n", r.Verdict())
	fmt.Fprintf(w, "  from, to     %s, %s\n", r.From.UTC().Format(time.RFC3339), r.To.UTC().Format(time.RFC3339))
	fmt.Fprintf(w, "  checkpoints  %d, every signature valid; held against %d from elsewhere\n", r.Checkpoints, r.Known)
	for _, e := range r.Epochs {
		printEpoch(w, e)
	}
	if r.Tail > 0 {
		fmt.Fprintf(w, "  unsigned     the last %d events came after the last checkpoint; compare them with what was shipped\n", r.Tail)
	}
	for _, in := range r.Incomplete {
		fmt.Fprintf(w, "  incomplete   event %q, at %v: %d of its %d parts are there\n", in.ID, in.At, in.Have, in.Of)
	}
	for _, in := range r.OpenIntents {
		note := "in progress when the log was copied"
		if in.Overdue {
			note = "OVERDUE: the node was stopped meanwhile, or somebody keeps its end from being written"
		}
		fmt.Fprintf(w, "  open         delivery %q, at %v, %v old: %s\n", in.ID, in.At, in.Age.Round(time.Second), note)
	}
	if r.Unlisted > 0 {
		fmt.Fprintf(w, "  more         %d further events are open or incomplete\n", r.Unlisted)
	}
	if o.key == "" {
		fmt.Fprintln(w, "  note         the key came from beside the log; --key with a copy kept elsewhere proves more")
	}
}

func printEpoch(w io.Writer, e auditlog.EpochReport) {
	state := "open"
	if e.Closed {
		state = "ended"
	}
	if e.Rotated != "" {
		state += ", and handed over to key " + e.Rotated
	}
	fmt.Fprintf(w, "  epoch        %d: %d events, root %s, key %s, %s\n", e.Number, e.Events, hex.EncodeToString(e.Root[:]), e.Key, state)
}
