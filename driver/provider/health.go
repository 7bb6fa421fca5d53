package provider

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Runtime is what a provider says about itself. A field is empty unless it is
// made of up to 64 letters, digits and ._+-.
type Runtime struct{ Name, Version string }

// Check asks a provider for its version: the health check of upstream. One
// that has no such call, or answers what is no version, is in good health all
// the same; one that speaks another version is not.
func (d *Deliverer) Check(ctx context.Context, provider string) (Runtime, error) {
	ctx, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	s, err := d.find(ctx, provider)
	if err != nil {
		return Runtime{}, err
	}
	u := d.upstream(provider)
	c, err := u.use(d, s)
	if err != nil {
		return Runtime{}, err
	}
	defer u.release(c)
	if err := c.ready(ctx, d.config.ConnectTimeout); err != nil {
		u.drop(c)
		return Runtime{}, err
	}
	reply, err := c.version(ctx)
	switch {
	case unimplemented(err):
		return Runtime{}, nil
	case err != nil:
		return Runtime{}, callError(ctx, provider, err)
	}
	if err := c.mismatch(otherVersion(reply.GetVersion())); err != nil {
		return Runtime{}, err
	}
	return Runtime{Name: word(reply.GetRuntimeName()), Version: word(reply.GetRuntimeVersion())}, nil
}

// word returns s if it is harmless to print.
func word(s string) string {
	if !regexp.MustCompile(`^[A-Za-z0-9._+-]{1,64}$`).MatchString(s) {
		return ""
	}
	return s
}

// Providers returns the names that have a socket file, trusted or not, sorted.
// A directory that cannot be read has none.
func (d *Deliverer) Providers() []string {
	var names []string
	for _, dir := range d.config.Dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			// One that does not exist is upstream's default on most nodes.
			if !errors.Is(err, fs.ErrNotExist) {
				d.config.Logger.Warn("provider directory cannot be read", keyPath, dir)
			}
			continue
		}
		for _, e := range entries {
			name, isSocket := strings.CutSuffix(filepath.Base(e.Name()), ".sock")
			if isSocket && validName(name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
