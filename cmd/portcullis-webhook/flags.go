package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/portcullis-csi/portcullis/daemon"
)

const (
	program = "portcullis-webhook"
	seeHelp = "see portcullis-webhook --help"
)

// options are the flags, one field a flag.
type options struct {
	listen         string
	certDir        string
	certSecret     string
	clientCA       string
	clientNames    []string
	configuration  string
	service        string
	namespace      string
	replica        string
	driverName     string
	clusterName    string
	kubeconfig     string
	knownProviders []string
	policy         daemon.PolicyFlags
	stateDir       string
	stateDurable   bool
	drain          time.Duration
	inFlight       int
	healthAddr     string
	metricsAddr    string
	log            daemon.LogFlags
	audit          daemon.AuditFlags
	development    development
}

// newCommand returns the command line; start runs the daemon.
func newCommand(start func(context.Context, options) error) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   program,
		Short: "Admission webhook that decides about secret volumes before a pod exists",
		Long: `portcullis-webhook is the admission webhook. When a pod with secret volumes is made
or changed it evaluates the policy bundle as the node plugin will at the mount,
records the decision in a durable log, and refuses the pod with the rule and the
remedy, or warns. It says the same of what makes pods, and of classes. The node
plugin stays the authority: a webhook that is down or gone grants nothing.

It needs no privileges: run it as a user other than root, without capabilities, with
a read-only root file system and a volume for --state-dir. It serves TLS 1.3. The
certificate comes from --cert-dir, or with --cert-secret it makes and rotates its
own: get and update of that Secret, get and patch of --webhook-configuration.

Signals: SIGTERM makes it unready, lets it answer for --drain more, and stops it;
SIGHUP reloads policy. Exit codes: 0 stopped as told, 1 refused or failed, 2 wrong
flags.`,
		Args:          cobra.NoArgs,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			return start(cmd.Context(), o)
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return daemon.Misuse(err.Error(), unknownFlagHint)
	})
	cmd.SetVersionTemplate("{{.Version}}\n")
	o.add(cmd)
	return cmd
}

func (o *options) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.SortFlags = true
	f.StringVar(&o.listen, "listen", ":9443", "address at which API servers call, by TLS 1.3")
	f.StringVar(&o.certDir, "cert-dir", "", "directory with tls.crt and tls.key, read again when they change: cert-manager's, which also writes the caBundle")
	f.StringVar(&o.certSecret, "cert-secret", "", "Secret of --namespace for a certificate of its own, which it rotates; it must be there, and may be empty")
	f.StringVar(&o.clientCA, "client-ca", "", "file of certificate authorities: only callers with a client certificate of one of them and of --client-names are answered, as API servers are by --admission-control-config-file; empty: everybody who reaches --listen")
	f.StringSliceVar(&o.clientNames, "client-names", nil, "comma separated common names of client certificates; needed with --client-ca, whose authority may also sign for users and nodes")
	f.StringVar(&o.configuration, "webhook-configuration", "portcullis", "ValidatingWebhookConfiguration whose caBundle must trust what is served; with --cert-secret it is written there")
	f.StringVar(&o.service, "service", program, "Service by which API servers call")
	f.StringVar(&o.namespace, "namespace", os.Getenv("POD_NAMESPACE"), "namespace of Service and Secret (default: the environment variable POD_NAMESPACE)")
	f.StringVar(&o.replica, "replica", os.Getenv("POD_NAME"), "name of this replica in events and in the origin of its log; it keeps it with --state-dir over restarts (default: the environment variable POD_NAME)")
	f.StringVar(&o.driverName, "drivername", "secrets-store.csi.k8s.io", "name of the CSI driver, as in the CSIDriver object and in pods")
	f.StringVar(&o.clusterName, "cluster-name", "", "name of this cluster in policy input and audit events (required)")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig of the webhook's account; empty: the service account of the pod that it runs in")
	f.StringSliceVar(&o.knownProviders, "known-providers", nil, "comma separated providers that classes may name without a warning; empty: every one")
	o.policy.Add(f)
	f.StringVar(&o.stateDir, "state-dir", "/var/lib/portcullis/webhook", "directory for the audit log, the inputs of decisions and admin.sock: of the webhook's user, mode 0700; a directory below a mounted volume is made so")
	f.BoolVar(&o.stateDurable, "state-durable", true, "--state-dir outlives the pod; false, as on an emptyDir, is a warning of readiness: its events go with the pod")
	f.DurationVar(&o.drain, "drain", 10*time.Second, "time that it goes on answering after SIGTERM, until no endpoint of the Service leads to it")
	f.IntVar(&o.inFlight, "max-in-flight", 32, "reviews at a time; another one waits for a second and is refused then")
	o.audit.Add(f)
	f.StringVar(&o.healthAddr, "health-addr", ":9809", "address of /healthz and /readyz; empty switches them off")
	f.StringVar(&o.metricsAddr, "metrics-addr", ":8095", "address of the Prometheus endpoint /metrics; empty switches it off")
	o.log.Add(f)
	o.development.add(f)
}

func (o *options) check() error {
	for _, check := range []func() error{
		o.checkNames, o.checkCertificate, o.checkBounds, func() error { return o.audit.Check(seeHelp) },
		func() error { return o.policy.Check(o.development.allowsUnsigned(), seeHelp) },
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (o *options) checkNames() error {
	if err := daemon.CheckDriverName(o.driverName); err != nil {
		return err
	}
	if err := daemon.CheckClusterName(o.clusterName); err != nil {
		return err
	}
	for _, f := range []struct{ flag, value, hint string }{
		{"--namespace", o.namespace, "set it to the namespace of the Service, or the environment variable POD_NAMESPACE from metadata.namespace"},
		{"--replica", o.replica, "set it to the pod's name, or the environment variable POD_NAME from metadata.name"},
		{"--service", o.service, "name the Service that the webhooks call"},
		{"--webhook-configuration", o.configuration, "name the ValidatingWebhookConfiguration of the chart"},
	} {
		switch {
		case f.value == "":
			return daemon.Misuse(f.flag+" is missing", f.hint)
		case len(validation.IsDNS1123Subdomain(f.value)) > 0:
			return daemon.Misuse(fmt.Sprintf("%s %q is not the name of an object", f.flag, f.value), f.hint)
		}
	}
	return nil
}

func (o *options) checkCertificate() error {
	const hint = "give --cert-secret for a certificate of its own, or --cert-dir for one of cert-manager"
	switch {
	case o.certDir == "" && o.certSecret == "":
		return daemon.Misuse("--cert-dir and --cert-secret are missing", hint)
	case o.certDir != "" && o.certSecret != "":
		return daemon.Misuse("--cert-dir and --cert-secret are both set", hint)
	case (o.clientCA == "") != (len(o.clientNames) == 0):
		return daemon.Misuse("--client-ca and --client-names need each other", "name the authority's file and the common names of the API servers' client certificates")
	case o.certSecret != "" && len(validation.IsDNS1123Subdomain(o.certSecret)) > 0:
		return daemon.Misuse(fmt.Sprintf("--cert-secret %q is not the name of a Secret", o.certSecret), hint)
	case o.development.manifestDir() != "" && o.certDir == "":
		return daemon.Misuse("--manifests without --cert-dir", "a Secret takes an API server: give --cert-dir")
	}
	return nil
}

func (o *options) checkBounds() error {
	if o.inFlight <= 0 || o.drain <= 0 {
		return daemon.Misuse("--max-in-flight and --drain must be positive", seeHelp)
	}
	return nil
}
