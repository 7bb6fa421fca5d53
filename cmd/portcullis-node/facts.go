package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"k8s.io/client-go/rest"

	"github.com/portcullis-csi/portcullis/daemon"
	"github.com/portcullis-csi/portcullis/driver"
	"github.com/portcullis-csi/portcullis/driver/identity"
	"github.com/portcullis-csi/portcullis/driver/podstatus"
	"github.com/portcullis-csi/portcullis/policies/kube/apiserver"
	"github.com/portcullis-csi/portcullis/policies/kube/manifests"
)

// What to do about a way to the API server that cannot be used.
const (
	inClusterHint  = "run the plugin as its DaemonSet, with the service account and automountServiceAccountToken: true, or give --kubeconfig"
	kubeconfigHint = "give --kubeconfig a file of the plugin's account: an https server, its certificate-authority, and a tokenFile or a client certificate"
)

// answerTimeout bounds what is asked for a warning only: a probe that waits for
// longer would be a failed one.
const answerTimeout = time.Second

// facts are the Kubernetes objects that decisions are made from.
type facts interface {
	identity.Cluster
	driver.Classes
	driver.Pods
}

// cluster is what the plugin has of an API server: where it reads facts, and
// tells what is mounted. A development build with --manifests has none.
type cluster struct {
	reader   *apiserver.Reader
	keys     *identity.Keys
	statuses *podstatus.Writer
	events   *podstatus.Events
	object   *driverObject
}

// openFacts finds the source of facts. Without one nothing could ever be
// granted, so the plugin does not start; one that does not answer yet is no
// reason not to, since somebody has to unmount.
func (p *plugin) openFacts(context.Context) error {
	dir := p.o.development.manifestDir()
	switch {
	case dir != "" && p.o.kubeconfig != "":
		return daemon.Misuse("--manifests and --kubeconfig are both set", "name one source of Kubernetes facts")
	case dir != "":
		return p.openManifests(dir)
	}
	config, err := apiserver.Load(p.o.kubeconfig)
	if errors.Is(err, apiserver.ErrNoConfig) {
		return daemon.Misuse("no source of Kubernetes facts: there is no --kubeconfig, and this is no pod of a cluster", noFactsHint)
	}
	if err != nil {
		return p.unreadable(err)
	}
	apiserver.LogTo(p.logger)
	return p.openCluster(config)
}

// unreadable is the error of a way to the API server that cannot be used.
func (p *plugin) unreadable(err error) error {
	if p.o.kubeconfig == "" {
		return daemon.Misuse(err.Error(), inClusterHint)
	}
	return daemon.Misuse(err.Error(), kubeconfigHint)
}

func (p *plugin) openManifests(dir string) error {
	d, err := manifests.Open(dir)
	if err != nil {
		return fmt.Errorf("open manifests: %w", err)
	}
	p.facts = d
	p.closers = append(p.closers, d.Close)
	return nil
}

func (p *plugin) openCluster(config *rest.Config) error {
	c := &cluster{}
	var err error
	if c.reader, err = apiserver.New(apiserver.Config{REST: config, Node: p.o.nodeID, DriverName: p.o.driverName, Logger: p.logger, PodChanged: p.podChanged}); err != nil {
		return p.unreadable(err) // the rest was checked with the flags
	}
	c.object = newDriverObject(c.reader.CSIDriver)
	if c.keys, err = identity.NewKeys(identity.KeysConfig{Source: c.reader, APIAudiences: p.o.apiAudiences}); err != nil {
		return err
	}
	if c.statuses, err = podstatus.NewWriter(podstatus.WriterConfig{REST: config, Node: p.o.nodeID, Logger: p.logger}); err != nil {
		return err
	}
	if c.events, err = podstatus.NewEvents(podstatus.EventsConfig{REST: config, Node: p.o.nodeID, Logger: p.logger}); err != nil {
		return err
	}
	p.facts, p.cluster = c.reader, c
	p.logger.Info("facts come from the API server")
	return nil
}

// podChanged has the volumes of a pod decided on again. The cluster is watched
// once there is a driver.
func (p *plugin) podChanged(uid string) { p.driver.PodChanged(uid) }

// verifier confirms pods: with the cluster's token keys where there are any.
func (p *plugin) verifier() (*identity.Verifier, error) {
	c := identity.Config{Cluster: p.facts, Node: p.o.nodeID, DriverName: p.o.driverName}
	if p.cluster != nil {
		c.Keys = p.cluster.keys
	}
	return identity.New(c)
}

// tell has the driver tell the cluster what is mounted, where there is one.
func (p *plugin) tell(c *driver.Config) {
	if p.cluster != nil {
		c.Statuses, c.Events = p.cluster.statuses, p.cluster.events
	}
}

// watchCluster keeps the caches of facts. It works before the driver serves,
// and the driver works without it.
func (p *plugin) watchCluster(ctx context.Context) {
	if p.cluster == nil {
		return
	}
	go func() {
		if err := p.cluster.reader.Run(ctx); err != nil {
			p.logger.Error("the API server is no longer watched", slog.Any(keyError, err))
		}
	}()
}

// tellCluster writes status objects and events. It begins after Recover, which
// says what is mounted: what the API server has of it already is not written again.
func (p *plugin) tellCluster(ctx context.Context) {
	if p.cluster == nil {
		return
	}
	go p.cluster.statuses.Run(ctx)
	go p.cluster.events.Run(ctx)
}

// clusterReady returns why facts may be read one by one for now.
func (p *plugin) clusterReady() error {
	if p.cluster == nil {
		return nil
	}
	return p.cluster.reader.Synced()
}

// clusterAnswers returns why no facts can be read now, and so nothing is granted.
func (p *plugin) clusterAnswers() error {
	if p.cluster == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	return p.cluster.reader.Trouble(ctx)
}
