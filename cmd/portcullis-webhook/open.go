package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	webhook "sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/portcullis-csi/portcullis/admission"
	"github.com/portcullis-csi/portcullis/admission/certificates"
	"github.com/portcullis-csi/portcullis/admission/server"
	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/daemon"
	"github.com/portcullis-csi/portcullis/policies/kube/apiserver"
	"github.com/portcullis-csi/portcullis/policies/kube/manifests"
)

// maxConnections is far more than API servers keep, of which each has a few.
const maxConnections = 256

// keeper keeps the serving certificate.
type keeper interface {
	GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
	Run(ctx context.Context)
	Failure() error
}

func (h *hook) openState() error {
	err := daemon.StateDirectory(h.o.stateDir)
	if usage, ok := errors.AsType[*daemon.UsageError](err); ok {
		// A volume belongs to root, and fsGroup lets the group in.
		return daemon.Misuse(usage.Problem, "name a directory below the volume, as in --state-dir=/var/lib/portcullis/webhook: the webhook makes it")
	}
	return err
}

// openAudit opens the log. Its origin is the replica's: a StatefulSet gives name and
// volume to the same one again.
func (h *hook) openAudit(ctx context.Context) error {
	var err error
	h.audit, err = daemon.OpenAudit(daemon.AuditConfig{
		StateDir: h.o.stateDir, Flags: h.o.audit, Logger: h.logger, Origin: h.o.clusterName + "/webhooks/" + h.o.replica,
		Source: audit.Source{Component: "admission", Version: version(), Cluster: h.o.clusterName, Node: h.o.replica, Insecure: daemon.Insecure},
	})
	if err != nil {
		return err
	}
	h.closers = append(h.closers, func() error { return h.audit.Close(h.stopReason) })
	h.audit.ServeAdmin(ctx)
	return nil
}

// openFacts finds the source of facts.
func (h *hook) openFacts(context.Context) error {
	if dir := h.o.development.manifestDir(); dir != "" {
		d, err := manifests.Open(dir)
		if err != nil {
			return fmt.Errorf("open manifests: %w", err)
		}
		h.facts = d
		h.closers = append(h.closers, d.Close)
		return nil
	}
	config, err := apiserver.Load(h.o.kubeconfig)
	if errors.Is(err, apiserver.ErrNoConfig) {
		return daemon.Misuse("no source of Kubernetes facts: there is no --kubeconfig, and this is no pod of a cluster", "give --kubeconfig, or run the webhook by the chart")
	}
	if err == nil {
		h.reader, err = apiserver.New(apiserver.Config{REST: config, ClusterWide: true, DriverName: h.o.driverName, Logger: h.logger})
	}
	if err != nil {
		return daemon.Misuse(err.Error(), "give --kubeconfig a file of the webhook's account, or run it by the chart with automountServiceAccountToken: true")
	}
	h.rest, h.facts = config, h.reader
	return nil
}

// openCertificates opens the port, and what it serves there.
func (h *hook) openCertificates(ctx context.Context) error {
	var err error
	if h.o.certDir != "" {
		h.keeper, err = certificates.OpenDirectory(h.o.certDir, h.logger)
	} else {
		h.keeper, err = certificates.New(certificates.Config{
			REST: h.rest, Namespace: h.o.namespace, Secret: h.o.certSecret, Service: h.o.service, Configuration: h.o.configuration, Logger: h.logger,
		})
	}
	if err != nil {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", h.o.listen)
	if err != nil {
		return fmt.Errorf("listen on --listen: %w", err)
	}
	h.listener = daemon.Crowd(l, maxConnections)
	if h.rest == nil {
		return nil
	}
	h.served, err = certificates.NewServed(certificates.ServedConfig{REST: h.rest, Address: l.Addr(), Namespace: h.o.namespace, Service: h.o.service, Configuration: h.o.configuration})
	return err
}

func (h *hook) openHooks(context.Context) error {
	handlers, err := admission.New(admission.Config{
		DriverName: h.o.driverName, Cluster: h.o.clusterName, Policy: h.policy, Facts: h.facts, Recorder: h.audit.Recorder(),
		Meter: h.meter, Logger: h.logger, KnownProviders: h.o.knownProviders, Decided: h.candidate.Observe,
	})
	if err != nil {
		return err
	}
	var callers *server.Callers
	if h.o.clientCA != "" {
		if callers, err = server.NewCallers(h.o.clientCA, h.o.clientNames, h.logger); err != nil {
			return err
		}
	}
	h.server, err = server.New(server.Config{
		Hooks:          map[string]webhook.Handler{"/pods": handlers.Pods, "/templates": handlers.Templates, "/classes": handlers.Classes},
		GetCertificate: h.keeper.GetCertificate, Logger: h.logger, Callers: callers, InFlight: h.o.inFlight, Drain: h.o.drain,
	})
	return err
}
