package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/portcullis-csi/portcullis/doctor"
	clusterfacts "github.com/portcullis-csi/portcullis/doctor/cluster"
	nodefacts "github.com/portcullis-csi/portcullis/doctor/node"
	"github.com/portcullis-csi/portcullis/policies/kube/cluster"
)

// doctorOptions are the flags of portcullis doctor.
type doctorOptions struct {
	node       nodefacts.Config
	kubeconfig string
	context    string
	only       string
	nodeName   string
	namespace  string
	account    string
	strict     bool
	timeout    time.Duration
	output     output
}

func doctorCommand() *cobra.Command {
	var o doctorOptions
	cmd := &cobra.Command{
		Use:   "doctor [--kubeconfig FILE] [--only node|cluster] [--strict]",
		Short: "Say what is wrong with a node or a cluster, and what to do",
		Long: `doctor looks at the node that it runs on and at the cluster that kubectl would
ask, at whichever of them is there, and prints a line for each check:

  OK    is as it should be
  WARN  works, with less than there could be; or nobody could look
  FAIL  does not work, or not as promised
  n/a   is not installed

and after "; hint: " what to do. It changes nothing, on the node or in the cluster,
prints no secret, and waits for nothing for long.

  portcullis doctor                                  both, as far as they are there
  portcullis doctor --only cluster --strict          before an upgrade, in a pipeline
  portcullis doctor --only node -o json              for monitoring
  kubectl -n kube-system exec ds/csi-secrets-store -c secrets-store -- \
    /portcullis doctor --only node                   on a node, through its plugin

On a node, run it as root: on the host itself, or in the plugin's container, whose
paths it finds by itself. Of a cluster it sees what its account may read: an
administrator's sees all of it. docs/OPERATIONS.md lists every check by its id.

Exit code 0: nothing failed. 1: nothing could be looked at. 2: wrong usage. 3: at
least one check is FAIL, or with --strict WARN.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(cmd); err != nil {
				return &usageError{err}
			}
			return o.run(cmd.Context())
		},
	}
	o.addFlags(cmd)
	addOutput(cmd, &o.output)
	return cmd
}

func (o *doctorOptions) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig of the cluster (default: as kubectl finds it, or the pod's own account)")
	f.StringVar(&o.context, "context", "", "context of the kubeconfig (default: the current one)")
	f.StringVar(&o.only, "only", "", "look at this part alone, node or cluster, and fail if it is not there")
	f.BoolVar(&o.strict, "strict", false, "let a WARN count as a FAIL")
	f.DurationVar(&o.timeout, "timeout", 30*time.Second, "how long a part may take as a whole")
	f.StringVar(&o.nodeName, "node-name", "", "name of this node in the API server (default: the environment variable NODE_NAME, or the host's name)")
	f.StringVar(&o.namespace, "namespace", "kube-system", "namespace of the plugin")
	f.StringVar(&o.account, "service-account", "secrets-store-csi-driver", "service account of the plugin")
	f.StringVar(&o.node.Driver, "drivername", defaultDriver, "name of the CSI driver, as for the plugin")
	f.StringVar(&o.node.KubeletRoot, "kubelet-root", "/var/lib/kubelet", "kubelet's root directory, as for the plugin")
	f.StringVar(&o.node.CSISocket, "csi-socket", "", "CSI socket (default: /csi/csi.sock, or plugins/csi-secrets-store/csi.sock of the kubelet root)")
	f.StringVar(&o.node.Registry, "registration-dir", "", "kubelet's plugins_registry (default: /registration, or plugins_registry of the kubelet root)")
	f.StringSliceVar(&o.node.ProviderDirs, "provider-dirs", []string{"/etc/kubernetes/secrets-store-csi-providers", "/var/run/secrets-store-csi-providers"}, "comma separated directories with sockets of providers, in the order of the plugin")
	f.IntSliceVar(&o.node.ProviderUIDs, "provider-uid", nil, "comma separated user ids, besides root, that providers may run as, as for the plugin")
	f.StringVar(&o.node.PolicyPath, "policy", "", "policy bundle of the plugin (default: /policy/bundle.tar.gz, if it is there)")
	f.StringVar(&o.node.StateDir, "state-dir", "/var/lib/portcullis", "state directory of the plugin")
	f.StringSliceVar(&o.node.HealthAddrs, "health-addr", []string{"127.0.0.1:9809", "127.0.0.1:9808"}, "comma separated addresses that the plugin's /readyz is looked for at")
}

func (o *doctorOptions) check(cmd *cobra.Command) error {
	switch {
	case o.only != "" && o.only != string(doctor.OfNode) && o.only != string(doctor.OfCluster):
		return fmt.Errorf("--only %q is neither node nor cluster", o.only)
	case o.only == string(doctor.OfNode) && (cmd.Flags().Changed("kubeconfig") || cmd.Flags().Changed("context")):
		return errors.New("--only node asks no cluster: leave out --kubeconfig and --context")
	case o.timeout <= 0:
		return errors.New("--timeout is not positive")
	case o.node.Driver == "" || strings.ContainsAny(o.node.Driver, "/ "):
		return fmt.Errorf("--drivername %q is not the name of a driver", o.node.Driver)
	case o.namespace == "" || o.account == "" || len(o.node.ProviderDirs) == 0 || len(o.node.HealthAddrs) == 0:
		return errors.New("--namespace, --service-account, --provider-dirs and --health-addr must not be empty")
	}
	host, _ := os.Hostname() // without a name less is known
	o.nodeName = cmp.Or(o.nodeName, os.Getenv("NODE_NAME"), host)
	o.node.CSISocket = cmp.Or(o.node.CSISocket, firstThere("/csi/csi.sock", o.node.KubeletRoot+"/plugins/csi-secrets-store/csi.sock"))
	o.node.Registry = cmp.Or(o.node.Registry, firstThere("/registration", o.node.KubeletRoot+"/plugins_registry"))
	if _, err := os.Stat("/policy/bundle.tar.gz"); err == nil {
		o.node.PolicyPath = cmp.Or(o.node.PolicyPath, "/policy/bundle.tar.gz")
	}
	return nil
}

// firstThere returns the first path that exists, else the last.
func firstThere(paths ...string) string {
	for _, p := range paths {
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	return paths[len(paths)-1]
}

func (o *doctorOptions) run(ctx context.Context) error {
	facts := doctor.Facts{Now: time.Now(), Driver: o.node.Driver, Version: version(), NodeName: o.nodeName, NodeWhy: "--only cluster", ClusterWhy: "--only node"}
	facts.Refusals = o.refusals
	if o.only != string(doctor.OfCluster) {
		if err := o.lookAtNode(ctx, &facts); err != nil {
			return err
		}
	}
	if o.only != string(doctor.OfNode) {
		o.lookAtCluster(ctx, &facts)
	}
	report := doctor.Run(&facts)
	if !report.Looked() {
		return hinted(fmt.Errorf("nothing could be looked at: node: %s; cluster: %s; hint: run doctor on a node, or give --kubeconfig", facts.NodeWhy, doctor.Printable(strings.ReplaceAll(facts.ClusterWhy, "; hint: ", ", "))))
	}
	if err := o.output.printFallibly(report, func(w io.Writer) error { return report.WriteText(w) }); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	if o.kubeconfig+o.context != "" && facts.Cluster == nil {
		return hinted(errors.New("look at the cluster: " + doctor.Printable(facts.ClusterWhy)))
	}
	if !report.Healthy(o.strict) {
		return errAnswerIsNo
	}
	return nil
}

func (o *doctorOptions) lookAtNode(ctx context.Context, facts *doctor.Facts) error {
	if err := o.node.Is(); err != nil {
		facts.NodeWhy = err.Error()
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	node, err := nodefacts.Gather(ctx, o.node)
	if err != nil {
		return hinted(err)
	}
	facts.Node = node
	return nil
}

func (o *doctorOptions) lookAtCluster(ctx context.Context, facts *doctor.Facts) {
	config, _, err := cluster.Load(o.kubeconfig, o.context)
	if err != nil {
		facts.ClusterWhy = "there is no kubeconfig that can be used"
		return
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	host := config.Host
	if o.kubeconfig == "" && os.Getenv("KUBECONFIG") == "" && config.BearerTokenFile == "/var/run/secrets/kubernetes.io/serviceaccount/token" {
		host = doctor.InCluster
	}
	facts.Cluster, err = clusterfacts.Gather(ctx, clusterfacts.Config{REST: config, Driver: o.node.Driver, Namespace: o.namespace, Account: o.account, Host: cmp.Or(host, "the default address")})
	if err != nil {
		facts.ClusterWhy = err.Error()
	}
}
