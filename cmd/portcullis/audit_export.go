package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/portcullis-csi/portcullis/audit/proof"
)

// exportOptions are the flags of portcullis audit export.
type exportOptions struct {
	logOptions
	out    string
	output output
}

func exportCommand() *cobra.Command {
	var o exportOptions
	cmd := &cobra.Command{
		Use:   "export [--file DIR] --out DIR",
		Short: "Write an audit log in the form that other people's tools read",
		Long: `export verifies an audit log as portcullis audit verify does, and writes each epoch as
a directory of C2SP tlog-tiles (https://c2sp.org/tlog-tiles): checkpoint,
tile/<level>/<n>, tile/entries/<n>, and beside them node.vkey, the key that signed
it. Any web server can serve that, and verifiers of transparency logs check it.

  portcullis audit export --out export

Into the directory of an earlier export it writes what came since, and refuses a
log that is not an extension of what is there. Nothing is ever written over, and
an export that was interrupted has no checkpoint: run it again. Epochs that the
node has deleted since stay. Events that no checkpoint covers are left out.

Exit code 0: exported. 1: the log does not verify, or is not that of before.
2: wrong usage.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.out == "" {
				return &usageError{errors.New("--out is missing")}
			}
			return o.on(cmd, func(ctx context.Context) error { return exportMain(ctx, o, cmd.ErrOrStderr()) })
		},
	}
	o.add(cmd)
	cmd.Flags().StringVar(&o.out, "out", "", "directory to write to, made if it is missing (required)")
	addOutput(cmd, &o.output)
	return cmd
}

func exportMain(ctx context.Context, o exportOptions, progress io.Writer) error {
	in, err := o.read()
	if err != nil {
		return err
	}
	list, err := proof.Export(ctx, proof.ExportConfig{
		Path: o.file, VKey: in.vkey, Known: in.known, Out: o.out, Progress: newProgress(progress, "events read, each twice:").at,
	})
	if err != nil {
		return hinted(err)
	}
	return o.output.print(jsonExported(list), func(w io.Writer) {
		for _, e := range list {
			fmt.Fprintf(w, "epoch %d: %d events in %s, %d new files\n", e.Number, e.Size, e.Dir, e.Files)
		}
	})
}

// exportedReport is the form of --output json: for machines, and stable.
type exportedReport struct {
	Epochs []exportedEpoch `json:"epochs"`
}

type exportedEpoch struct {
	epochReport
	Directory string `json:"directory"`
	Exported  int64  `json:"exported"` // events
	NewFiles  int    `json:"newFiles"`
}

func jsonExported(list []proof.Exported) exportedReport {
	r := exportedReport{Epochs: []exportedEpoch{}}
	for _, e := range list {
		r.Epochs = append(r.Epochs, exportedEpoch{jsonEpoch(e.EpochReport), e.Dir, e.Size, e.Files})
	}
	return r
}
