package main

import (
	"context"

	"github.com/spf13/pflag"
	storagev1 "k8s.io/api/storage/v1"

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

// ProviderDirs returns where a plugin with these flags, besides the required
// ones, would look for providers.
func ProviderDirs(args []string) ([]string, error) {
	var dirs []string
	cmd := newCommand(func(_ context.Context, o options) error { dirs = o.providerDirs(); return nil })
	cmd.SetArgs(append([]string{"--nodeid=n", "--cluster-name=c", "--policy=p", "--policy-key=k"}, args...))
	err := cmd.Execute()
	return dirs, err
}

// DriverObject returns what readiness says of a CSIDriver object that is read
// like this: why nothing is granted, and what else is wrong.
func DriverObject(read func(context.Context) (*storagev1.CSIDriver, error)) (granting, otherwise func() error) {
	d := newDriverObject(read)
	return d.granting, d.otherwise
}
