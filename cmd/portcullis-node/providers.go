package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/portcullis-csi/portcullis/daemon"
)

// providerDirs returns the directories of provider sockets in the order of
// upstream: those of --additional-provider-volume-paths, then --provider-volume.
func (o options) providerDirs() []string {
	var dirs []string
	for _, d := range append(strings.Split(o.extraProviderDirs, ","), o.providerDir) {
		if d = strings.TrimSpace(d); d == "" {
			continue
		}
		if d = filepath.Clean(d); !slices.Contains(dirs, d) {
			dirs = append(dirs, d)
		}
	}
	return dirs
}

// checkPaths refuses directories and sockets that would depend on where the
// process was started.
func (o options) checkPaths() error {
	dirs := o.providerDirs()
	for _, d := range dirs {
		if !filepath.IsAbs(d) {
			return daemon.Misuse(fmt.Sprintf("--provider-volume and --additional-provider-volume-paths: %q is not an absolute path", d), "give directories that begin with a slash, separated by commas")
		}
	}
	clean := func(path string) bool { return filepath.IsAbs(path) && filepath.Clean(path) == path }
	switch {
	case len(dirs) == 0:
		return daemon.Misuse("--provider-volume and --additional-provider-volume-paths name no directory", "name the directory in which providers make their sockets")
	case o.registrationPath == "":
		return nil
	case !clean(o.registrationPath):
		return daemon.Misuse(fmt.Sprintf("--kubelet-registration-path %q is not the absolute path of a socket", o.registrationPath), "give the CSI socket as kubelet sees it, as in /var/lib/kubelet/plugins/csi-secrets-store/csi.sock")
	case !clean(o.registrationDir):
		return daemon.Misuse(fmt.Sprintf("--plugin-registration-dir %q is not the absolute path of a directory", o.registrationDir), "mount kubelet's plugins_registry directory and name where")
	}
	return nil
}

// watchProviders asks providers how they are, where that was asked for.
func (p *plugin) watchProviders(ctx context.Context) {
	if p.o.healthCheck {
		p.providers.Run(ctx, p.o.healthInterval)
	}
}

// providersPresent returns why no class can be served.
func (p *plugin) providersPresent() error {
	if len(p.deliverer.Providers()) > 0 {
		return nil
	}
	return fmt.Errorf("no provider socket in %v; hint: install a provider on this node", p.o.providerDirs())
}
