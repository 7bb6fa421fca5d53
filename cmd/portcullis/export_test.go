package main

import "github.com/spf13/cobra"

// Run is the program.
func Run(args []string) int { return run(args) }

// Printable is how an event is shown.
func Printable(text []byte) string { return printable(text) }

// Command returns the program's commands.
func Command() *cobra.Command { return newCommand() }
