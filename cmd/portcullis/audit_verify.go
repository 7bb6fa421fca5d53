package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

// verifyOptions are the flags of portcullis audit verify.
type verifyOptions struct {
	file        string
	key         string
	checkpoints []string
	output      output
}

func verifyCommand() *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use:   "verify --file EPOCH.db [--key node.vkey] [--checkpoint FILE]",
		Short: "Check that an audit log is complete and unaltered",
		Long: `verify reads an audit log offline: a copy, or the file of a node whose plugin is
stopped. It recomputes the Merkle tree over every event, and compares it with
every signed checkpoint in the file.

A log that was altered, cut or reordered up to its last checkpoint is refused, and
so is one with more unsigned events after it than a crash leaves. The first line
says of how many events that is true: the log of a plugin that was killed may have
a few more, which whoever can write the file could have made up.
Two things only others can tell: that the whole log was put back to an earlier
state of itself, for which give --checkpoint a checkpoint that was kept
elsewhere, and that the key itself was replaced, for which give --key a copy of
node.vkey that was kept elsewhere.

Exit code 0: verified. 1: altered, damaged or not readable. 2: wrong usage.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.file == "" {
				return &usageError{errors.New("--file is missing")}
			}
			return verifyMain(cmd.Context(), o, cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.file, "file", "", "an epoch of the audit log, epoch-*.db in the plugin's --state-dir/audit (required)")
	f.StringVar(&o.key, "key", "", "public key of the node's log (default: node.vkey beside the file, which proves less)")
	f.StringSliceVar(&o.checkpoints, "checkpoint", nil, "comma separated files with checkpoints of this log that were kept elsewhere")
	addOutput(cmd, &o.output)
	return cmd
}

func verifyMain(ctx context.Context, o verifyOptions, progress io.Writer) error {
	keyFile := o.key
	if keyFile == "" {
		keyFile = filepath.Join(filepath.Dir(o.file), auditlog.VKeyFileName)
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return &hintedError{fmt.Errorf("read the log's public key: %w", err), "copy node.vkey from the plugin's --state-dir/audit, or name it with --key"}
	}
	c := auditlog.VerifyConfig{Path: o.file, VKey: strings.TrimSpace(string(key)), Progress: newProgress(progress, "events verified:").at}
	for _, name := range o.checkpoints {
		text, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("read checkpoint: %w", err)
		}
		c.Known = append(c.Known, text)
	}
	report, err := auditlog.Verify(ctx, c)
	if err != nil {
		return verifyError(err)
	}
	return o.output.print(jsonReport(report), func(w io.Writer) { printReport(w, o, report) })
}

// verifyError splits the hint off, as every error of this command line has it.
func verifyError(err error) error {
	text, hint, found := strings.Cut(err.Error(), "; hint: ")
	if !found {
		return err
	}
	return &hintedError{errors.New(text), hint}
}

// progressEvery keeps a long verification from looking like a hanging one.
const progressEvery = 2 * time.Second

func printReport(w io.Writer, o verifyOptions, r auditlog.Report) {
	fmt.Fprintf(w, "OK: %s\n", r.Verdict())
	fmt.Fprintf(w, "  root         %s\n", hex.EncodeToString(r.Root[:]))
	fmt.Fprintf(w, "  from, to     %s, %s\n", r.From.UTC().Format(time.RFC3339), r.To.UTC().Format(time.RFC3339))
	fmt.Fprintf(w, "  checkpoints  %d, every signature valid\n", r.Checkpoints)
	if r.Tail > 0 {
		fmt.Fprintf(w, "  unsigned     the last %d events came after the last checkpoint; compare them with what was shipped\n", r.Tail)
	}
	for _, in := range r.Incomplete {
		fmt.Fprintf(w, "  incomplete   event %s, number %d: %d of its %d parts are there\n", in.ID, in.Index, in.Have, in.Of)
	}
	for _, in := range r.OpenIntents {
		note := "in progress when the log was copied"
		if in.Overdue {
			note = "OVERDUE: the node was stopped meanwhile, or somebody keeps its end from being written"
		}
		fmt.Fprintf(w, "  open         delivery %s, event %d, %v old: %s\n", in.ID, in.Index, in.Age.Round(time.Second), note)
	}
	if o.key == "" {
		fmt.Fprintln(w, "  note         the key came from beside the log; --key with a copy kept elsewhere proves more")
	}
	if len(o.checkpoints) == 0 {
		fmt.Fprintln(w, "  note         without --checkpoint, a log put back to an earlier state of itself would pass")
	}
}

// verifyReport is the form of --output json: for machines, and stable.
type verifyReport struct {
	Origin      string       `json:"origin"`
	Events      int64        `json:"events"`
	Root        string       `json:"root"` // hexadecimal
	Checkpoints int          `json:"checkpoints"`
	From        time.Time    `json:"from"`
	To          time.Time    `json:"to"`
	Signed      int64        `json:"signed"`   // events that a checkpoint covers: of these alone anything is proved
	Unsigned    int64        `json:"unsigned"` // the others
	OpenIntents []openIntent `json:"openIntents"`
	Incomplete  []incomplete `json:"incomplete"`
}

type incomplete struct {
	ID    string `json:"id"`
	Index int64  `json:"index"`
	Have  int    `json:"have"`
	Of    int    `json:"of"`
}

type openIntent struct {
	ID         string `json:"id"`
	Index      int64  `json:"index"`
	AgeSeconds int64  `json:"ageSeconds"`
	Overdue    bool   `json:"overdue"`
}

func jsonReport(r auditlog.Report) verifyReport {
	v := verifyReport{
		Origin: r.Origin, Events: r.Events, Root: hex.EncodeToString(r.Root[:]), Checkpoints: r.Checkpoints,
		From: r.From, To: r.To, Signed: r.Signed, Unsigned: r.Tail, OpenIntents: []openIntent{}, Incomplete: []incomplete{},
	}
	for _, in := range r.Incomplete {
		v.Incomplete = append(v.Incomplete, incomplete{in.ID, in.Index, in.Have, in.Of})
	}
	for _, in := range r.OpenIntents {
		v.OpenIntents = append(v.OpenIntents, openIntent{in.ID, in.Index, int64(in.Age.Seconds()), in.Overdue})
	}
	return v
}
