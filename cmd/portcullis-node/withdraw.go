package main

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/portcullis-csi/portcullis/hardening"
)

// withdraw takes the plugin's sockets and an empty volumes.db off a node on which
// kubelet has nothing to unmount, after the last call: what is told to stop may
// have been uninstalled, and then nobody else would. While there is something,
// they stay. Kubelet takes the removal of the registration socket for the removal
// of the driver, and could not unmount until the next plugin is there, which in an
// upgrade is soon.
//
// A successor cannot be here yet, as the audit log is ours until the end; and a
// socket that is not the one that was made is left alone.
func (p *plugin) withdraw(csi *hardening.Socket) error {
	used, err := p.volumes.InUse()
	if err != nil {
		return fmt.Errorf("sockets are left in place: %w", err)
	}
	if used {
		p.logger.Info("volumes are mounted: the sockets stay for the next plugin")
		return nil
	}
	if p.registrar != nil {
		err = p.registrar.Withdraw() // first, since kubelet would call the other
	}
	err = errors.Join(err, csi.Remove())
	if failure := p.records.Retire(); failure != nil {
		// They are a hint, and somebody put something in their place: no stop fails for that.
		p.logger.Warn("volume records are left behind", slog.Any(keyError, failure))
	}
	p.logger.Info("no volume is mounted: sockets removed", slog.String(keyEndpoint, p.o.endpoint))
	return err
}
