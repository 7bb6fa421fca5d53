// Command portcullis-node is the CSI node plugin: one process a node, which
// decides, delivers and records every secret volume.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
)

func main() { os.Exit(run(os.Args[1:])) }

// run returns the exit code: 0 stopped as told, 1 refused or failed, 2 wrong
// flags.
func run(args []string) int {
	cmd := newCommand(start)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(context.Background())
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "portcullis-node: %v\n", err)
	var usage *usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(os.Stderr, "hint: %s\n", usage.hint)
		return 2
	}
	return 1
}
