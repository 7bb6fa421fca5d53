package main

// Run is the program.
func Run(args []string) int { return run(args) }

// Printable is how an event is shown.
func Printable(text []byte) string { return printable(text) }
