package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/portcullis-csi/portcullis/audit/sample"
)

func sampleCommand() *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use:   "sample DIR",
		Short: "Write an audit log to practise on",
		Long: `sample writes the audit log of a node that never was into a new or empty directory,
to learn on it what the other audit commands do; docs/AUDIT_EVENTS.md goes through
them. It needs no cluster and no root.

  portcullis audit sample practice
  portcullis audit verify --file practice/node/audit --key practice/kept/node.vkey

node/ is as the --state-dir of a node that was stopped: the log, of two epochs with a
replaced key between them, and the inputs of its decisions. kept/ is what an auditor
would have kept elsewhere: the node's first public key, and a checkpoint. earlier/ is
the log as it was at a restart, to put back. Decisions are real ones of the starter
policy; the rest is made up, and every event says so (source.insecure).

Exit code 0: written. 1: refused or failed. 2: wrong usage.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &usageError{fmt.Errorf("give one directory, not %d", len(args))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := sample.Write(cmd.Context(), args[0])
			if err != nil {
				return hinted(err)
			}
			return o.print(sampleReport{p.Log, p.Inputs, p.Key, p.Checkpoints, p.Earlier}, func(w io.Writer) {
				fmt.Fprintf(w, "log          %s\ninputs       %s\nkey          %s\ncheckpoints  %s\nearlier log  %s\n", p.Log, p.Inputs, p.Key, p.Checkpoints, p.Earlier)
			})
		},
	}
	addOutput(cmd, &o)
	return cmd
}

// sampleReport is the form of --output json: for machines, and stable.
type sampleReport struct {
	Log         string `json:"log"`
	Inputs      string `json:"inputs"`
	Key         string `json:"key"`
	Checkpoints string `json:"checkpoints"`
	Earlier     string `json:"earlier"`
}
