// Command portcullis-node is the CSI node plugin: one process a node, which
// decides, delivers and records every secret volume.
package main

import (
	"context"
	"os"

	"github.com/portcullis-csi/portcullis/daemon"
)

func main() { os.Exit(run(os.Args[1:])) }

// run returns the exit code: 0 stopped as told, 1 refused or failed, 2 wrong
// flags.
func run(args []string) int {
	cmd := newCommand(start)
	cmd.SetArgs(args)
	return daemon.ExitCode(os.Stderr, "portcullis-node", cmd.ExecuteContext(context.Background()))
}
