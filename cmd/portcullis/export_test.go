package main

import (
	"errors"
	"io"

	"github.com/spf13/cobra"
)

// Run is the program.
func Run(args []string) int { return run(args) }

// Complain says why a command failed, and returns the exit code: of an error, of a
// wrong usage, and of what has a hint.
func Complain(w io.Writer, err error) int { return complain(w, err) }

// Misused is an error of usage.
func Misused(err error) error { return &usageError{err} }

// Hinted is an error with a hint; without one, the hint of its text.
func Hinted(err error, hint string) error {
	if hint == "" {
		return withHint(err)
	}
	return &hintedError{err, hint}
}

// Printable is how an event is shown.
func Printable(text []byte) string { return printable(text) }

// Command returns the program's commands.
func Command() *cobra.Command { return newCommand() }

// AnswerIsNo reports whether a command did its work and the answer is no.
func AnswerIsNo(err error) bool { return errors.Is(err, errAnswerIsNo) }
