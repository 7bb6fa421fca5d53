package main

import (
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/portcullis-csi/portcullis/audit/tail"
)

func checkpointCommand() *cobra.Command {
	var o struct {
		socket socketFlag
		output output
	}
	cmd := &cobra.Command{
		Use:   "checkpoint",
		Short: "Have the node's log signed as it is now",
		Long: `checkpoint has the plugin that runs on this node sign its log as it is now, and
prints the signed checkpoint: origin, number of events, root, signature. Kept
where the node cannot write, it is what later proves that no event before it was
altered, removed or put back:

  portcullis audit checkpoint >> /evidence/node-1.checkpoints
  portcullis audit verify --checkpoint /evidence/node-1.checkpoints

Exit code 0: printed. 1: refused or failed. 2: wrong usage.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := o.socket.client().Checkpoint(cmd.Context())
			if err != nil {
				return hinted(err)
			}
			clean := printableLines(string(text))
			answer := struct {
				Checkpoint string `json:"checkpoint"`
			}{clean}
			return o.output.print(answer, func(w io.Writer) { _, _ = io.WriteString(w, clean) })
		},
	}
	o.socket.add(cmd)
	addOutput(cmd, &o.output)
	return cmd
}

// printableLines keeps escape sequences from the terminal. Signatures have an
// em dash, so that it is ASCII but for that.
func printableLines(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\u2014' || r >= ' ' && r <= '~' {
			return r
		}
		return '?'
	}, text)
}

// oneLine is text of the plugin that is one word of printable ASCII.
func oneLine(text string) string { return string(tail.Printable([]byte(text))) }
