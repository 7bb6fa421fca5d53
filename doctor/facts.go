package doctor

import (
	"crypto/x509"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/portcullis-csi/portcullis/hardening"
)

// Facts are all that a run judges.
type Facts struct {
	Now      time.Time
	Driver   string // name of the CSI driver
	Version  string // of this command
	NodeName string // of this node in the API server, "" if nobody knows
	Node     *Node  // nil: not looked at, for NodeWhy
	NodeWhy  string
	Cluster  *Cluster // nil: not looked at, for ClusterWhy
	// ClusterWhy may also say that there is no cluster to be found.
	ClusterWhy string
	// Refusals returns what the admission policies would refuse in a pod if they
	// were set to deny; nil: nobody knows.
	Refusals func(*corev1.Pod) []Refusal
}

// Refusal is one thing in a pod that an admission policy would refuse.
type Refusal struct{ Policy, Field, Message string }

// Asked is an answer, or why there is none.
type Asked[T any] struct {
	Value T
	Err   error
}

// Node is what can be seen on a node.
type Node struct {
	Kernel       hardening.Kernel
	Root         bool // whether this process is root
	Swaps        Asked[[]string]
	OpenFiles    uint64 // limit of this process
	Cgroup       int    // version, 0 if unknown
	Kubelet      Kubelet
	Registration Registration
	Plugin       Plugin
	Ready        Asked[[]Condition]
	ReadyAddr    string
	Providers    Asked[[]Provider]
	ProviderDirs []string
	Bundle       Asked[*Bundle]
	Log          Asked[[]Epoch]
	// Active is the digest of the bundle that the plugin last put in force, as its
	// log says; "" if it never did.
	Active Asked[string]
	// Signed is set if the plugin had verified signatures of that bundle.
	Signed    bool
	StateDir  string
	FreeBytes Asked[int64] // on its disk
	Volumes   Asked[[]Volume]
}

// Kubelet is what its directories show.
type Kubelet struct {
	Root        string
	Pods        error // why its pods directory cannot be used
	Shared      Asked[bool]
	RegistryDir string
	Registry    error // why plugins_registry cannot be used
}

// Registration is what the registration socket answers kubelet.
type Registration struct {
	Path     string
	Name     string
	Endpoint string
	Type     string
	Versions []string
	Err      error
}

// Plugin is what the CSI socket answers kubelet.
type Plugin struct {
	Path    string
	Name    string
	Version string
	Ready   bool
	Err     error
}

// Condition is one line of /readyz.
type Condition struct {
	Name   string
	Detail string // what is wrong
	Mark   byte   // +, - or !
}

// Provider is a provider with a socket file.
type Provider struct {
	Name    string
	Path    string
	Runtime string // what it calls itself, may be empty
	Err     error
	Hint    string
}

// Bundle is the policy that the plugin is told to use.
type Bundle struct {
	Path     string
	Digest   string
	Revision string
	Serial   int64
	NotAfter time.Time
	Warnings []string
}

// Epoch is one file of the audit log.
type Epoch struct {
	Number, Events, Bytes int64
	From, To              time.Time
	Closed                bool
}

// Volume is a mounted volume of a pod.
type Volume struct {
	PodUID, Name string
	Legacy       bool // of the upstream driver
}

// Cluster is what the API server says.
type Cluster struct {
	Host           string
	Version        Asked[string]
	Namespace      string // of the plugin
	Account        string
	Nodes          Asked[[]corev1.Node]
	DriverObject   Asked[*storagev1.CSIDriver] // nil value: there is none
	Definitions    Asked[[]Definition]
	Rights         Asked[[]Right]
	ServiceAccount Asked[*corev1.ServiceAccount]
	DaemonSets     Asked[[]appsv1.DaemonSet] // those that are drivers of this kind
	CSINodes       Asked[[]storagev1.CSINode]
	Volumes        Asked[[]corev1.PersistentVolume]
	Classes        Asked[[]Class]
	Statuses       Asked[[]PodStatus]
	Pods           Asked[[]corev1.Pod] // without values of environment variables
	Events         Asked[[]corev1.Event]
	Policies       Asked[[]admissionv1.ValidatingAdmissionPolicy]
	Bindings       Asked[[]admissionv1.ValidatingAdmissionPolicyBinding]
	Webhooks       Asked[[]admissionv1.ValidatingWebhookConfiguration]
	Endpoints      Asked[[]Endpoint] // of the webhook's Service
	// Daemons are the plugins and webhooks that run, each with its policy.
	Daemons Asked[[]Daemon]
	Floor   Asked[*Floor] // nil value: there is none
}

// Floor is the ConfigMap with the lowest serial of policy, and no more of it than is
// meant to be there.
type Floor struct {
	Data struct{ Serial, Digest string } `json:"data"`
}

// Endpoint is a replica of the webhook.
type Endpoint struct {
	Name    string // of its pod
	Address string
	Ready   bool
	Chain   []*x509.Certificate // what it serves, asked of those that are ready
	Err     error               // why it could not be asked
}

// Definition is a CustomResourceDefinition.
type Definition struct {
	Name   string
	Served []string // versions
	// Fields are those of the schema of v1, as paths with dots.
	Fields map[string]bool
	// Established says that the API server serves it.
	Established bool
}

// Right is one thing that the plugin's account may do or not.
type Right struct {
	Verb, Group, Resource, Name, Path string
	Needed                            bool // otherwise it must not have it
	Allowed                           bool
}

// Class is a SecretProviderClass, without its parameters.
type Class struct {
	Namespace, Name, Provider string
	SecretObjects             int
}

// PodStatus is a SecretProviderClassPodStatus, without its objects.
type PodStatus struct{ Namespace, Name, Pod, PodUID string }
