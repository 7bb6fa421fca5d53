package main

import (
	"context"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/daemon"
)

// openAudit opens the log and the recorder over it, and the admin socket.
func (p *plugin) openAudit(ctx context.Context) error {
	var err error
	p.audit, err = daemon.OpenAudit(daemon.AuditConfig{
		StateDir: p.o.stateDir, Flags: p.o.audit, Logger: p.logger, Origin: p.o.clusterName + "/nodes/" + p.o.nodeID,
		Source: audit.Source{Component: "driver", Version: version(), Cluster: p.o.clusterName, Node: p.o.nodeID, Insecure: daemon.Insecure},
	})
	if err != nil {
		return err
	}
	p.closers = append(p.closers, func() error { return p.audit.Close(p.stopReason) })
	p.recorder = p.audit.Recorder()
	p.audit.ServeAdmin(ctx)
	return nil
}
