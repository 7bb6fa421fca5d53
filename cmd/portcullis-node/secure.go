//go:build !insecure

package main

import (
	"log/slog"

	"github.com/spf13/pflag"
)

const (
	noFactsHint     = "give --kubeconfig, or run the plugin as its DaemonSet"
	unknownFlagHint = seeHelp + "; --manifests and --allow-unsigned-policy exist only in development builds (go build -tags insecure)"
)

// development has no flags in this build.
type development struct{}

func (development) add(*pflag.FlagSet) {}

func (development) manifestDir() string  { return "" }
func (development) allowsUnsigned() bool { return false }
func (development) warn(*slog.Logger)    {}
