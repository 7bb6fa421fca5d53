package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func rotateKeyCommand() *cobra.Command {
	var o struct {
		socket socketFlag
		output output
	}
	cmd := &cobra.Command{
		Use:   "rotate-key",
		Short: "Give the node's log a new key",
		Long: `rotate-key has the plugin that runs on this node replace the key that signs its
log. The epoch ends with an event that names both keys and a checkpoint that both
have signed; the next one is signed by the new key alone, and the old private key
is gone. So whoever holds one of the public keys can verify the log on both sides.

Rotate when somebody may have read node.key, and keep what it prints where the
node cannot write. Events that were signed before are as good as the old key was.

  portcullis audit rotate-key --output json

Exit code 0: rotated. 1: not rotated. 2: wrong usage.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := o.socket.client().RotateKey(cmd.Context())
			if err != nil {
				return hinted(err)
			}
			return o.output.print(key, func(w io.Writer) {
				fmt.Fprintf(w, "%s\n", oneLine(key.VerifierKey))
			})
		},
	}
	o.socket.add(cmd)
	addOutput(cmd, &o.output)
	return cmd
}
