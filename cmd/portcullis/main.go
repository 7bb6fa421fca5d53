// Command portcullis is the command line of Portcullis: it shows the product
// at work, verifies audit logs, and explains policy.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() { os.Exit(run(os.Args[1:])) }

// run returns the exit code: 0 done, 1 refused, failed or not as told, 2 wrong
// usage, 3 done and the answer is no.
func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cmd := newCommand()
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if errors.Is(err, errReaderRefused) {
		return readerRefusedCode
	}
	if errors.Is(err, errAnswerIsNo) {
		return answerIsNoCode
	}
	fmt.Fprintf(os.Stderr, "portcullis: %v\n", err)
	var hinted *hintedError
	if errors.As(err, &hinted) {
		fmt.Fprintf(os.Stderr, "hint: %s\n", hinted.hint)
	}
	var usage *usageError
	if errors.As(err, &usage) {
		fmt.Fprintln(os.Stderr, "hint: see portcullis --help")
		return 2
	}
	return 1
}

// hintedError is a refusal with its remedy.
type hintedError struct {
	err  error
	hint string
}

// Error says what was refused.
func (e *hintedError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *hintedError) Unwrap() error { return e.err }

// usageError is a command line that makes no sense.
type usageError struct{ err error }

// Error says what is wrong.
func (e *usageError) Error() string { return e.err.Error() }

func newCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "portcullis",
		Short: "Secrets for Kubernetes pods: decided, delivered and recorded",
		Long: `portcullis is the command line of the Portcullis Secrets Store CSI driver.

  portcullis demo           plays the whole story on this machine, in a minute
  portcullis audit tail     shows the last events of this node's log
  portcullis audit verify   checks that an audit log is complete and unaltered
  portcullis policy         writes, tests and explains policy`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.AddCommand(demoCommand(), demoReaderCommand(), auditCommand(), policyCommand(), uninstallCheckCommand())
	return root
}
