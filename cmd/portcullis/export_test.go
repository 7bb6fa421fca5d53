package main

import (
	"errors"

	"github.com/spf13/cobra"
)

// Run is the program.
func Run(args []string) int { return run(args) }

// Printable is how an event is shown.
func Printable(text []byte) string { return printable(text) }

// Command returns the program's commands.
func Command() *cobra.Command { return newCommand() }

// AnswerIsNo reports whether a command did its work and the answer is no.
func AnswerIsNo(err error) bool { return errors.Is(err, errAnswerIsNo) }
