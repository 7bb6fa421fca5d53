package main

import (
	"errors"
	"log/slog"
)

// reportConfinement tells what the kernel holds the process to.
func (p *plugin) reportConfinement() {
	c := p.confinement
	p.logger.Info("process confined", slog.Any(keyCaps, c.Capabilities), slog.Bool(keyNoNew, c.NoNewPrivs),
		slog.Bool(keyFiltered, c.Filtered), slog.Int(keyThreads, c.Threads))
	if err := p.confined(); err != nil {
		p.logger.Warn("system calls are not filtered", slog.Any(keyError, err))
	}
}

// confined is a warning of readiness: whatever else is missing, the plugin does
// not start.
func (p *plugin) confined() error {
	if p.confinement.Filtered {
		return nil
	}
	return errors.New(p.confinement.Unfiltered + "; hint: use a kernel with CONFIG_SECCOMP_FILTER")
}
