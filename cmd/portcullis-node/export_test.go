package main

import (
	"context"

	"github.com/spf13/pflag"
)

// InsecureBuild is insecureBuild.
const InsecureBuild = insecureBuild

// Run is the program.
func Run(args []string) int { return run(args) }

// Flags returns the flags of this build.
func Flags() *pflag.FlagSet {
	return newCommand(func(context.Context, options) error { return nil }).Flags()
}
