package lab

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-csi/portcullis/test/cluster/node"
)

// Addresses exist in the node's own network only, which has no uplink:
// TEST-NET-2 for the node and its pods, TEST-NET-3 for services (RFC 5737).
const (
	nodeName       = "node1"
	nodeAddress    = "198.51.100.1"
	podRange       = "198.51.100.128/25"
	podGateway     = "198.51.100.129"
	serviceRange   = "203.0.113.0/24"
	serviceAddress = "203.0.113.1"
	dnsAddress     = "203.0.113.10"
	issuer         = "https://kubernetes.default.svc.cluster.local"
	server         = "https://" + nodeAddress + ":443"
)

// StaticPods is the directory of kubelet's static pods, in the node.
const StaticPods = "/etc/kubernetes/manifests"

// Daemons of the node, as Restart, Stop, Start and Log name them.
const (
	Etcd              = "etcd"
	Containerd        = "containerd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
	Kubelet           = "kubelet"
)

const (
	pauseImage   = "lab.invalid/pause:1"
	busyboxImage = "lab.invalid/busybox:1"
	// What the samples under deploy name.
	busyboxAlias = "docker.io/library/busybox:1.37"
)

func (l *Lab) file(names ...string) string {
	return filepath.Join(slices.Concat([]string{l.dir}, names)...)
}

func (l *Lab) key(name string) string { return l.file("pki", name) }

// spec is the node.
func (l *Lab) spec(c Config, clone string) node.Spec {
	daemon := func(dir, name string, args ...string) node.Daemon {
		return node.Daemon{Name: name, Args: append([]string{filepath.Join(dir, name)}, args...), Env: []string{"PATH=" + l.state.Programs.path()}}
	}
	p := l.state.Programs
	return node.Spec{
		Dir: l.dir, Hostname: nodeName, Limit: c.Limit,
		Binds:     slices.Concat([]string{l.dir, clone}, p.dirs()),
		Dirs:      []string{StaticPods, "/var/lib/kubelet", "/var/lib/etcd", "/var/log/pods", "/var/log/containers"},
		Addresses: []string{nodeAddress, serviceAddress},
		Daemons: []node.Daemon{
			daemon(p.Kubernetes, Etcd, etcdArgs()...),
			daemon(p.Containerd, Containerd, "--config="+l.file("containerd.toml"), "--log-level=info"),
			daemon(p.Kubernetes, APIServer, overridden(l.apiserverArgs(), c.APIServerArgs)...),
			daemon(p.Kubernetes, ControllerManager, l.controllerManagerArgs()...),
			daemon(p.Kubernetes, Scheduler, l.clientArgs("scheduler")...),
			daemon(p.Kubernetes, Kubelet, "--config="+l.file("kubelet.yaml"), "--kubeconfig="+l.key("kubelet.kubeconfig"),
				"--hostname-override="+nodeName, "--node-ip="+nodeAddress, "--root-dir=/var/lib/kubelet", "--cert-dir=/var/lib/kubelet/pki", "--v=2"),
		},
	}
}

func etcdArgs() []string {
	const client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
	return []string{
		"--name=lab", "--data-dir=/var/lib/etcd/data", "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=lab=" + peer,
	}
}

func (l *Lab) apiserverArgs() []string {
	return []string{
		"--etcd-servers=http://127.0.0.1:2379", "--bind-address=0.0.0.0", "--secure-port=443",
		"--advertise-address=" + nodeAddress, "--endpoint-reconciler-type=none", "--service-cluster-ip-range=" + serviceRange,
		"--cert-dir=" + l.file("pki"), "--tls-cert-file=" + l.key("apiserver.crt"), "--tls-private-key-file=" + l.key("apiserver.key"),
		"--client-ca-file=" + l.key("ca.crt"), "--kubelet-client-certificate=" + l.key("apiserver-kubelet-client.crt"),
		"--kubelet-client-key=" + l.key("apiserver-kubelet-client.key"), "--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=" + issuer, "--service-account-key-file=" + l.key("sa.pub"), "--service-account-signing-key-file=" + l.key("sa.key"),
		"--requestheader-client-ca-file=" + l.key("ca.crt"), "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group", "--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + l.key("front-proxy-client.crt"), "--proxy-client-key-file=" + l.key("front-proxy-client.key"),
		// There is no kube-proxy: services of webhooks are resolved to endpoints.
		"--enable-aggregator-routing=true",
		"--audit-policy-file=" + l.file("audit-policy.yaml"), "--audit-log-path=" + l.AuditLog(),
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true", "--profiling=false",
	}
}

// clientArgs are those of the two programs that only speak to the API server.
// With their usual limits the first service account would be seconds late.
func (l *Lab) clientArgs(user string) []string {
	kubeconfig := l.key(user + ".kubeconfig")
	return []string{
		"--kubeconfig=" + kubeconfig, "--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig,
		"--leader-elect=false", "--kube-api-qps=500", "--kube-api-burst=1000", "--bind-address=127.0.0.1", "--cert-dir=" + l.file("pki", user), "--profiling=false",
	}
}

func (l *Lab) controllerManagerArgs() []string {
	return append(l.clientArgs("controller-manager"),
		"--use-service-account-credentials=true", "--root-ca-file="+l.key("ca.crt"), "--service-account-private-key-file="+l.key("sa.key"))
}

// overridden returns args with those of the same name replaced by others'.
func overridden(args, others []string) []string {
	var kept []string
	for _, a := range args {
		name, _, _ := strings.Cut(a, "=")
		if !slices.ContainsFunc(others, func(o string) bool { return o == name || strings.HasPrefix(o, name+"=") }) {
			kept = append(kept, a)
		}
	}
	return append(kept, others...)
}

// files are the configurations that the daemons read.
func (l *Lab) files(c Config) map[string]string {
	return map[string]string{
		"containerd.toml":   l.containerdConfig(),
		"kubelet.yaml":      l.kubeletConfig(c.SyncFrequency),
		"cni/10-lab.conf":   cniConfig,
		"audit-policy.yaml": auditPolicy,
	}
}

func (l *Lab) containerdConfig() string {
	return fmt.Sprintf(`version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = 0
# What needs a kernel feature, a service or a directory that a lab has not.
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.erofs", "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.internal.v1.tracing", "io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt"]

[grpc]
  address = "/run/containerd/containerd.sock"

[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = %[1]q

[plugins.'io.containerd.cri.v1.runtime']
  # Root may lack CAP_SYS_RESOURCE, as in a container: then no pod could lower it.
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      BinaryName = %[2]q
      SystemdCgroup = false
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = [%[3]q]
    conf_dir = %[4]q
`, pauseImage, filepath.Join(l.state.Programs.Runc, "runc"), l.state.Programs.CNI, l.file("cni"))
}

func (l *Lab) kubeletConfig(sync time.Duration) string {
	return fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /%[1]s
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
staticPodPath: %[2]s
address: 0.0.0.0 # the API server dials the node's address for logs and exec
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: %[3]s}
authorization: {mode: Webhook}
kubeAPIQPS: 500
kubeAPIBurst: 1000
failSwapOn: false
resolvConf: ""
clusterDNS: [%[4]s] # nobody listens; without it every pod gets a MissingClusterDNS event
clusterDomain: cluster.local
enforceNodeAllocatable: []
evictionHard: {memory.available: 1Mi, nodefs.available: 0%%, nodefs.inodesFree: 0%%, imagefs.available: 0%%}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
syncFrequency: %[5]s # how often a pod is synced, and so how often requiresRepublish publishes again
nodeStatusUpdateFrequency: 4s
registerWithTaints: []
shutdownGracePeriod: 0s
volumePluginDir: /var/lib/kubelet/volume-plugins
`, l.cgroup(), StaticPods, l.key("ca.crt"), dnsAddress, sync)
}

const cniConfig = `{
  "cniVersion": "1.0.0", "name": "lab", "type": "bridge",
  "bridge": "cni0", "isGateway": true, "isDefaultGateway": true, "ipMasq": false, "hairpinMode": true,
  "ipam": {"type": "host-local", "dataDir": "/run/cni", "ranges": [[{"subnet": "` + podRange + `", "gateway": "` + podGateway + `"}]]}
}
`

// auditPolicy leaves out what a cluster does by itself all the time, and holds
// what tests ask for: who called what.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  users: ["system:node:` + nodeName + `", "system:kube-scheduler", "system:kube-controller-manager", "system:apiserver"]
  resources:
  - {group: coordination.k8s.io, resources: [leases]}
  - {group: "", resources: [events]}
  - {group: events.k8s.io, resources: [events]}
- level: None
  users: ["system:serviceaccount:kube-system:endpoint-controller", "system:serviceaccount:kube-system:endpointslice-controller"]
- level: None
  nonResourceURLs: ["/healthz*", "/livez*", "/readyz*", "/openapi*", "/version*"]
- level: Metadata
`
