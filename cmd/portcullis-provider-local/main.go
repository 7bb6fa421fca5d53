// Command portcullis-provider-local is a secrets provider that serves the files
// of a directory over the ordinary provider socket. It is for demonstrations,
// tests and machines without a secrets manager.
//
// It promises that no file outside its directory is ever read, whatever object
// a class names, and that its errors and logs hold names but never contents.
// It does not encrypt or protect the directory: whoever prepares it must keep
// it readable by this program only, and replace files by renaming new ones, so
// that a secret is never read half.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(run(os.Args[1:])) }

// run returns the exit code: 0 stopped as told, 1 refused or failed, 2 wrong
// flags.
func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cmd := newCommand(start)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "portcullis-provider-local: %v\n", err)
	var usage *usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(os.Stderr, "hint: %s\n", usage.hint)
		return 2
	}
	return 1
}
