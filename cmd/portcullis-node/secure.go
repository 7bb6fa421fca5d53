//go:build !insecure

package main

import (
	"log/slog"

	"github.com/spf13/pflag"
)

// insecureBuild is false: this build has no flag that weakens anything.
const insecureBuild = false

const (
	unsignedNote    = ""
	unknownFlagHint = seeHelp + "; --manifests and --allow-unsigned-policy exist only in development builds (go build -tags insecure)"
)

// development has no flags in this build.
type development struct{}

func (development) add(*pflag.FlagSet) {}

// check refuses: facts about pods may come only from an API server, and this
// release does not read one yet.
func (development) check() error {
	return &usageError{"no source of Kubernetes facts",
		"this release cannot read the API server yet; to try it out, build with -tags insecure and name a directory with --manifests"}
}

func (development) manifestDir() string  { return "" }
func (development) allowsUnsigned() bool { return false }
func (development) warn(*slog.Logger)    {}
