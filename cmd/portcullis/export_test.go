package main

// Run is the program.
func Run(args []string) int { return run(args) }
