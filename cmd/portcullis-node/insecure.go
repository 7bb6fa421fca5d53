//go:build insecure

package main

import (
	"log/slog"

	"github.com/spf13/pflag"
)

const (
	unknownFlagHint = seeHelp
	noFactsHint     = "give --kubeconfig, run the plugin as its DaemonSet, or name a directory with --manifests"
)

// development holds the flags that exist in builds with the tag insecure only.
type development struct {
	manifests     string
	allowUnsigned bool
}

func (d *development) add(f *pflag.FlagSet) {
	f.StringVar(&d.manifests, "manifests", "", "INSECURE: directory with manifests of pods, namespaces, service accounts and classes, in place of the API server")
	f.BoolVar(&d.allowUnsigned, "allow-unsigned-policy", false, "INSECURE: accept a policy bundle that nobody signed")
}

func (d *development) manifestDir() string  { return d.manifests }
func (d *development) allowsUnsigned() bool { return d.allowUnsigned }
func (d *development) warn(logger *slog.Logger) {
	logger.Warn("INSECURE BUILD: for development and tests only, never for secrets that matter",
		slog.String(keyManifests, d.manifests), slog.Bool(keyUnsigned, d.allowUnsigned))
}
