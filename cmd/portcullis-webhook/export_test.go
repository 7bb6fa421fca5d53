package main

import (
	"context"

	"github.com/spf13/pflag"

	"github.com/portcullis-csi/portcullis/admission/certificates"
	"github.com/portcullis-csi/portcullis/daemon"
)

// InsecureBuild is that of package daemon.
const InsecureBuild = daemon.Insecure

// Run is the program.
func Run(args []string) int { return run(args) }

// Flags returns the flags of this build.
func Flags() *pflag.FlagSet {
	return newCommand(func(context.Context, options) error { return nil }).Flags()
}

// Accepts returns why the command line would not start.
func Accepts(args []string) error {
	cmd := newCommand(func(context.Context, options) error { return nil })
	cmd.SetArgs(args)
	return cmd.Execute()
}

// Conditions are those of readiness, of a webhook that has not started.
func Conditions() []daemon.Check {
	h := &hook{keeper: (*certificates.Directory)(nil)}
	return h.checks()
}
