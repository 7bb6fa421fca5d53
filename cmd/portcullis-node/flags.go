package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/portcullis-csi/portcullis/daemon"
	"github.com/portcullis-csi/portcullis/hardening"
)

// options are the flags, one field a flag. Upstream's flags keep their names
// and defaults (promise P11).
type options struct {
	endpoint           string
	driverName         string
	nodeID             string
	log                daemon.LogFlags
	providerDir        string
	extraProviderDirs  string
	metricsAddr        string
	rotation           bool
	rotationInterval   time.Duration
	maxReceiveBytes    int
	kubeletRoot        string
	kubeconfig         string
	apiAudiences       []string
	clusterName        string
	hostProc           string
	policy             daemon.PolicyFlags
	stateDir           string
	audit              daemon.AuditFlags
	healthAddr         string
	swapProtection     string
	selinuxContext     string
	maxVolumeBytes     int64
	maxNodeBytes       int64
	providerUIDs       []int
	providerConcurrent int
	healthCheck        bool
	healthInterval     time.Duration
	pprof              bool
	pprofPort          string
	registrationPath   string
	registrationDir    string
	development        development
}

const seeHelp = "see portcullis-node --help"

// newCommand returns the command line; start runs the daemon.
func newCommand(start func(context.Context, options) error) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "portcullis-node",
		Short: "Secrets Store CSI node plugin that decides, delivers and records every mount",
		Long: `portcullis-node is the CSI node plugin. For every secret volume that kubelet asks
for it confirms the pod, evaluates the policy bundle, records the decision in a
durable log, fetches the granted secrets from a provider's socket, and mounts
them read-only on a tmpfs that cannot be swapped.

It needs root with the capabilities SYS_ADMIN, CHOWN and SETUID, and IPC_LOCK where
swap is on, Linux 5.12 or later, and a state directory that survives restarts.
First of all it drops every other capability but DAC_OVERRIDE for --provider-uid,
and starts itself anew. Signals: SIGTERM finishes what runs and stops; SIGHUP reloads policy.`,
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
	f.StringVar(&o.endpoint, "endpoint", "unix:///csi/csi.sock", "CSI endpoint: unix:///path of the socket that kubelet calls")
	f.StringVar(&o.driverName, "drivername", "secrets-store.csi.k8s.io", "name of the CSI driver, as in the CSIDriver object and in pods")
	f.StringVar(&o.nodeID, "nodeid", os.Getenv("NODE_NAME"), "name of this node in the API server (default: the environment variable NODE_NAME)")
	o.log.Add(f)
	f.StringVar(&o.providerDir, "provider-volume", "/var/run/secrets-store-csi-providers", "directory with the providers' sockets, <provider>.sock")
	f.StringVar(&o.extraProviderDirs, "additional-provider-volume-paths", "/etc/kubernetes/secrets-store-csi-providers", "comma separated directories that are searched for sockets before --provider-volume; given twice, the last counts")
	f.StringVar(&o.metricsAddr, "metrics-addr", ":8095", "address of the Prometheus endpoint /metrics; empty switches it off")
	f.BoolVar(&o.rotation, "enable-secret-rotation", false, "fetch mounted secrets again when they are due; without it only policy is asked again")
	f.DurationVar(&o.rotationInterval, "rotation-poll-interval", 2*time.Minute, "time between fetches of a mounted volume")
	f.IntVar(&o.maxReceiveBytes, "max-call-recv-msg-size", 4<<20, "largest reply of a provider, in bytes")
	f.StringVar(&o.kubeletRoot, "kubelet-root", "/var/lib/kubelet", "kubelet's root directory, at the same path as kubelet sees it")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig of the plugin's account; empty: the service account of the pod that it runs in")
	f.StringSliceVar(&o.apiAudiences, "api-audiences", nil, "comma separated audiences of the API server, as its own flag of this name says: a service account token without an audience has one of them (default: the issuer)")
	f.StringVar(&o.hostProc, "host-proc", "/proc", "proc file system that shows the processes of the node; without it, volumes whose pod is gone are left alone")
	f.StringVar(&o.clusterName, "cluster-name", "", "name of this cluster in policy input and audit events (required)")
	o.policy.Add(f)
	f.StringVar(&o.stateDir, "state-dir", "/var/lib/portcullis", "directory for the audit log, the inputs of decisions, volumes.db and admin.sock: on the node's disk, mode 0700, kept over restarts")
	o.audit.Add(f)
	f.StringVar(&o.healthAddr, "health-addr", "127.0.0.1:9809", "address of /healthz and /readyz; empty switches them off")
	f.StringVar(&o.swapProtection, "swap-protection", string(hardening.SettingAuto), "how volumes are kept out of swap: auto, noswap (Linux 6.4) or mlock (protects only while this process runs)")
	f.StringVar(&o.selinuxContext, "selinux-context", "", "SELinux context= option of volumes, on nodes that need one")
	f.Int64Var(&o.maxVolumeBytes, "max-volume-bytes", 1<<20, "largest content of one volume, in bytes")
	f.Int64Var(&o.maxNodeBytes, "max-node-bytes", 128<<20, "memory for all volumes of the node, in bytes; a namespace gets a quarter")
	f.IntSliceVar(&o.providerUIDs, "provider-uid", nil, "comma separated user ids, besides root, that providers may run as")
	f.IntVar(&o.providerConcurrent, "provider-concurrency", 16, "calls to one provider at the same time; akeyless gets one, since its provider confuses the identities of several")
	f.BoolVar(&o.healthCheck, "provider-health-check", false, "ask each provider for its version from time to time; log those that do not answer, and serve portcullis_provider_up")
	f.DurationVar(&o.healthInterval, "provider-health-check-interval", 2*time.Minute, "time between such questions")
	f.BoolVar(&o.pprof, "enable-pprof", false, "serve profiles on --pprof-port, on loopback only; profiles hold no secrets, but tell who mounts when")
	f.StringVar(&o.pprofPort, "pprof-port", "6065", "port for profiles")
	f.StringVar(&o.registrationPath, "kubelet-registration-path", "", "path of the CSI socket as kubelet sees it: the plugin registers itself; empty leaves that to a node-driver-registrar")
	f.StringVar(&o.registrationDir, "plugin-registration-dir", "/registration", "kubelet's plugins_registry directory, for --kubelet-registration-path")
	o.development.add(f)
}

func (o *options) check() error {
	for _, check := range []func() error{
		o.checkNames, o.checkBounds, func() error { return o.audit.Check(seeHelp) }, o.checkPaths,
		func() error { return o.policy.Check(o.development.allowsUnsigned(), seeHelp) },
	} {
		if err := check(); err != nil {
			return err
		}
	}
	_, err := hardening.ParseSetting(o.swapProtection)
	if wrong, ok := errors.AsType[*hardening.ConfigError](err); ok {
		return daemon.Misuse(wrong.Field+": "+wrong.Reason, wrong.Remedy)
	}
	return err
}

func (o *options) checkNames() error {
	switch {
	case o.nodeID == "":
		return daemon.Misuse("--nodeid is missing", "set it to the node's name, or the environment variable NODE_NAME from spec.nodeName")
	case len(validation.IsDNS1123Subdomain(o.nodeID)) > 0:
		return daemon.Misuse(fmt.Sprintf("--nodeid %q is not the name of a node", o.nodeID), "set it to the node's name in the API server")
	}
	if err := daemon.CheckDriverName(o.driverName); err != nil {
		return err
	}
	return daemon.CheckClusterName(o.clusterName)
}

func (o *options) checkBounds() error {
	switch {
	case o.rotationInterval <= 0 || o.healthInterval <= 0:
		return daemon.Misuse("--rotation-poll-interval and --provider-health-check-interval must be positive", seeHelp)
	case o.maxVolumeBytes <= 0 || o.maxNodeBytes < o.maxVolumeBytes:
		return daemon.Misuse(fmt.Sprintf("--max-volume-bytes %d does not fit into --max-node-bytes %d", o.maxVolumeBytes, o.maxNodeBytes), seeHelp)
	case o.maxReceiveBytes <= 0 || o.providerConcurrent <= 0:
		return daemon.Misuse("--max-call-recv-msg-size and --provider-concurrency must be positive", seeHelp)
	}
	return nil
}
