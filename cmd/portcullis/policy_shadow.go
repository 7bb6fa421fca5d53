package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/portcullis-csi/portcullis/policies/shadow"
)

// shadowOptions are the flags of portcullis policy shadow.
type shadowOptions struct {
	socket   socketFlag
	previous bool
	output   output
}

func policyShadowCommand() *cobra.Command {
	var o shadowOptions
	cmd := &cobra.Command{
		Use:   "shadow",
		Short: "Show what a candidate bundle would have decided on this node",
		Long: `shadow shows where the candidate bundle of a running plugin, --policy-shadow, differs
from the one in force: by workload, as policy diff does, with the rules that make
the difference and the owners of the grants. It asks the plugin, so run it as root
on the node.

  portcullis policy shadow
  portcullis policy shadow --output json
  portcullis policy shadow --previous

A period begins when either bundle changes. --previous shows the one before. Every
mounted volume is decided on again within five minutes, or within
--rotation-poll-interval where that is longer: until all were compared, the answer
is not that nothing flips.

Exit code 0: all volumes of the node were compared and nothing flips. 1: failed, too
little was compared to say so, or the candidate could never be put in force. 2: wrong
usage. 3: something flips.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return shadowMain(cmd.Context(), o) },
	}
	o.socket.add(cmd)
	cmd.Flags().BoolVar(&o.previous, "previous", false, "show the period before the last change of a bundle")
	addOutput(cmd, &o.output)
	return cmd
}

func shadowMain(ctx context.Context, o shadowOptions) error {
	text, err := o.socket.client().Shadow(ctx)
	if err != nil {
		return hinted(err)
	}
	var r shadow.Report
	if err := json.Unmarshal(text, &r); err != nil {
		return &hintedError{errors.New("the plugin sent no report of a candidate"), "use the portcullis of the plugin's version"}
	}
	if o.previous {
		if r.Previous == nil {
			return &hintedError{errors.New("there is no period before this one"), "one ends when a bundle changes, and is kept until the plugin stops"}
		}
		r = *r.Previous
	}
	if err := o.output.print(r, func(w io.Writer) { printShadow(w, &r) }); err != nil {
		return err
	}
	return shadowAnswer(&r)
}

// shadowAnswer is the exit code of a report: silence is no consent.
func shadowAnswer(r *shadow.Report) error {
	switch {
	case r.Total() > 0:
		return errAnswerIsNo
	case r.Compared == 0 && r.Problem != "":
		return withHint(fmt.Errorf("nothing was compared: %s", r.Problem))
	case r.Compared == 0:
		return &hintedError{errors.New("nothing was compared yet"), "each mounted volume is decided on again within five minutes; a new pod at once"}
	case r.Live != nil && r.Live.Compared < r.Live.Volumes:
		return &hintedError{fmt.Errorf("only %d of %d volumes of this node were compared", r.Live.Compared, r.Live.Volumes), "wait up to five minutes, or --rotation-poll-interval"}
	case r.Candidate.Serial <= r.Active.Serial:
		return &hintedError{fmt.Errorf("the candidate's serial %d is not above the active bundle's %d", r.Candidate.Serial, r.Active.Serial), "build it again with a higher serial: this one could not be put in force"}
	default:
		return nil
	}
}
