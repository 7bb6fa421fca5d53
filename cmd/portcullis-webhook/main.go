// Command portcullis-webhook is the admission webhook: it decides about pods and
// classes when they are made, by the policy that decides when they are mounted.
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
	return daemon.ExitCode(os.Stderr, program, cmd.ExecuteContext(context.Background()))
}
