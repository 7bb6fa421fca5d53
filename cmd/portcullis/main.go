// Command portcullis is the command line of Portcullis: it shows the product
// at work, verifies audit logs, and explains policy.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
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
	return complain(os.Stderr, err)
}

// complain says why a command failed, with one hint at most, the most specific, and
// returns the exit code.
func complain(w io.Writer, err error) int {
	code, general := 1, ""
	if _, ok := errors.AsType[*usageError](err); ok {
		code, general = 2, "see portcullis --help"
	}
	if hinted, ok := errors.AsType[*hintedError](err); ok {
		general = hinted.hint
	}
	problem, hint, found := splitHint(err.Error())
	switch {
	case strings.Contains(err.Error(), "\n"): // a list, in which each line has its own
		problem, hint = err.Error(), general
	case !found:
		hint = general
	}
	fmt.Fprintf(w, "portcullis: %s\n", problem)
	if hint != "" {
		fmt.Fprintf(w, "hint: %s\n", hint)
	}
	return code
}

// splitHint splits the hint off the text of an error. Where errors that were passed
// on had hints of their own, the first is that of who knew most.
func splitHint(text string) (problem, hint string, found bool) {
	const mark = "; hint: "
	problem, hint, found = strings.Cut(text, mark)
	if !strings.Contains(text, "\n") {
		hint, _, _ = strings.Cut(hint, mark)
	}
	return problem, hint, found
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

// Unwrap returns the cause, which may have a hint.
func (e *usageError) Unwrap() error { return e.err }

func newCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "portcullis",
		Short: "Secrets for Kubernetes pods: decided, delivered and recorded",
		Long: `portcullis is the command line of the Portcullis Secrets Store CSI driver.

  portcullis demo           plays the whole story on this machine, in a minute
  portcullis audit tail     shows the last events of this node's log
  portcullis audit verify   checks that an audit log is complete and unaltered
  portcullis policy         writes, tests and explains policy
  portcullis doctor         says what is wrong with a node or a cluster`,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.AddCommand(demoCommand(), demoReaderCommand(), auditCommand(), policyCommand(), doctorCommand(), uninstallCheckCommand())
	return root
}
