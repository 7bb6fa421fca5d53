package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/portcullis-csi/portcullis/hardening"
)

// options are the flags, one field a flag. Upstream's flags keep their names
// and defaults (promise P11).
type options struct {
	endpoint           string
	driverName         string
	nodeID             string
	logJSON            bool
	verbosity          int
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
	policy             string
	policyPoll         time.Duration
	stateDir           string
	auditRetention     int64
	auditEpoch         int64
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

// usageError is a flag that is missing or wrong.
type usageError struct {
	problem, hint string
}

// Error says what is wrong.
func (e *usageError) Error() string { return e.problem }

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
		return &usageError{err.Error(), unknownFlagHint}
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
	f.BoolVar(&o.logJSON, "log-format-json", false, "log in JSON")
	f.IntVarP(&o.verbosity, "v", "v", 0, "log verbosity; 4 and more logs every call")
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
	f.StringVar(&o.policy, "policy", "", "policy bundle (required): a directory, or a tar.gz of portcullis policy build"+unsignedNote)
	f.DurationVar(&o.policyPoll, "policy-poll-interval", 30*time.Second, "time between looks at the policy source")
	f.StringVar(&o.stateDir, "state-dir", "/var/lib/portcullis", "directory for the audit log, the inputs of decisions, volumes.db and admin.sock: on the node's disk, mode 0700, kept over restarts")
	f.Int64Var(&o.auditRetention, "audit-retention-bytes", 1<<30, "room for the audit log on the disk, in bytes; the oldest epoch is deleted first. A tenth more is for the inputs of decisions")
	f.Int64Var(&o.auditEpoch, "audit-epoch-bytes", 64<<20, "size at which a file of the audit log ends and the next one begins, in bytes: 1 MiB or more, and at most half of --audit-retention-bytes. Refusals of one namespace may fill a quarter of it, and are counted beyond that")
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
	switch {
	case o.nodeID == "":
		return &usageError{"--nodeid is missing", "set it to the node's name, or the environment variable NODE_NAME from spec.nodeName"}
	case len(validation.IsDNS1123Subdomain(o.nodeID)) > 0:
		return &usageError{fmt.Sprintf("--nodeid %q is not the name of a node", o.nodeID), "set it to the node's name in the API server"}
	case !isDriverName(o.driverName):
		return &usageError{fmt.Sprintf("--drivername %q is not the name of a CSI driver", o.driverName), "give the name of the CSIDriver object: at most 63 letters, digits, dots and dashes"}
	case o.clusterName == "":
		return &usageError{"--cluster-name is missing", "name the cluster as your SIEM should show it, as in --cluster-name=prod-eu1"}
	case !isClusterName(o.clusterName):
		return &usageError{fmt.Sprintf("--cluster-name %q is no name that events can have", o.clusterName), "give at most 253 letters, digits, dots, dashes and underscores, with a letter or digit at both ends"}
	case o.policy == "":
		return &usageError{"--policy is missing", "name the policy bundle; there is no way to run without policy"}
	case o.rotationInterval <= 0 || o.policyPoll <= 0 || o.healthInterval <= 0:
		return &usageError{"--rotation-poll-interval, --policy-poll-interval and --provider-health-check-interval must be positive", seeHelp}
	case o.maxVolumeBytes <= 0 || o.maxNodeBytes < o.maxVolumeBytes:
		return &usageError{fmt.Sprintf("--max-volume-bytes %d does not fit into --max-node-bytes %d", o.maxVolumeBytes, o.maxNodeBytes), seeHelp}
	case o.auditEpoch < 1<<20 || o.auditEpoch > o.auditRetention/2:
		return &usageError{fmt.Sprintf("--audit-epoch-bytes %d is below 1 MiB or more than half of --audit-retention-bytes %d", o.auditEpoch, o.auditRetention), seeHelp}
	case o.maxReceiveBytes <= 0 || o.providerConcurrent <= 0:
		return &usageError{"--max-call-recv-msg-size and --provider-concurrency must be positive", seeHelp}
	}
	if err := o.checkPaths(); err != nil {
		return err
	}
	_, err := hardening.ParseSetting(o.swapProtection)
	if wrong, ok := errors.AsType[*hardening.ConfigError](err); ok {
		return &usageError{wrong.Field + ": " + wrong.Reason, wrong.Remedy}
	}
	return err
}

// isDriverName reports whether the CSI specification lets GetPluginInfo answer
// with this name, and the API server would take a CSIDriver object of it.
func isDriverName(name string) bool {
	const most = 63
	return len(name) <= most && len(validation.IsDNS1123Subdomain(strings.ToLower(name))) == 0
}

// isClusterName reports whether events, which everything is refused without, can
// name this cluster.
func isClusterName(name string) bool {
	return regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9._]{0,251}[A-Za-z0-9])?$`).MatchString(name)
}
