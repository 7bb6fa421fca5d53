package main

// InsecureBuild is insecureBuild.
const InsecureBuild = insecureBuild

// Run is the program.
func Run(args []string) int { return run(args) }
