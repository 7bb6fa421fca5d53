package cluster

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"sync"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/client-go/rest"

	"github.com/portcullis-csi/portcullis/doctor"
)

const (
	groupAdmission = "/apis/admissionregistration.k8s.io/v1/"
	groupClasses   = "/apis/secrets-store.csi.x-k8s.io/v1/"
	groupStorage   = "/apis/storage.k8s.io/v1/"
)

// Config says which cluster, and where the plugin is in it. Every field is required.
type Config struct {
	REST      *rest.Config
	Driver    string // name of the CSI driver
	Namespace string // of the plugin
	Account   string // its service account
	// Host is how the cluster is called in the report.
	Host string
}

func (c Config) check() error {
	if c.REST == nil || c.Driver == "" || c.Namespace == "" || c.Account == "" || c.Host == "" {
		return errors.New("configure doctor: REST, Driver, Namespace, Account and Host are required")
	}
	return nil
}

// Gather asks the API server for everything at once. An error means that it does
// not answer at all.
func Gather(ctx context.Context, c Config) (*doctor.Cluster, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	api, err := newClient(c.REST)
	if err != nil {
		return nil, err
	}
	found := &doctor.Cluster{Host: c.Host, Namespace: c.Namespace, Account: c.Account}
	var version struct {
		GitVersion string `json:"gitVersion"`
	}
	if err := api.do(ctx, question{path: "/version"}, &version); err != nil && !errors.Is(err, doctor.ErrForbidden) {
		return nil, err
	}
	found.Version.Value = version.GitVersion
	var asked sync.WaitGroup
	defer asked.Wait()
	for _, ask := range questions(ctx, api, c, found) {
		asked.Go(ask)
	}
	return found, nil
}

// questions fill a field each.
func questions(ctx context.Context, api *client, c Config, f *doctor.Cluster) []func() {
	mounts := url.Values{"fieldSelector": {"reason=FailedMount"}}
	return []func(){
		func() { f.Nodes = list(ctx, api, question{path: "/api/v1/nodes"}, whole[corev1.Node]) },
		func() {
			f.DriverObject = get[storagev1.CSIDriver](ctx, api, groupStorage+"csidrivers/"+url.PathEscape(c.Driver))
		},
		func() { f.Definitions = definitions(ctx, api) },
		func() { f.Rights = rights(ctx, api, c) },
		func() {
			f.ServiceAccount = get[corev1.ServiceAccount](ctx, api, "/api/v1/namespaces/"+url.PathEscape(c.Namespace)+"/serviceaccounts/"+url.PathEscape(c.Account))
		},
		func() { f.DaemonSets = list(ctx, api, question{path: "/apis/apps/v1/daemonsets"}, c.driver) },
		func() {
			f.CSINodes = list(ctx, api, question{path: groupStorage + "csinodes"}, whole[storagev1.CSINode])
		},
		func() {
			f.Volumes = list(ctx, api, question{path: "/api/v1/persistentvolumes"}, whole[corev1.PersistentVolume])
		},
		func() { f.Classes = list(ctx, api, question{path: groupClasses + "secretproviderclasses"}, class) },
		func() {
			f.Statuses = list(ctx, api, question{path: groupClasses + "secretproviderclasspodstatuses"}, podStatus)
		},
		func() { f.Pods = list(ctx, api, question{path: "/api/v1/pods"}, pod) },
		func() {
			f.Events = list(ctx, api, question{path: "/api/v1/events", query: mounts}, whole[corev1.Event])
		},
		func() {
			f.Policies = list(ctx, api, question{path: groupAdmission + "validatingadmissionpolicies"}, whole[admissionv1.ValidatingAdmissionPolicy])
		},
		func() {
			f.Bindings = list(ctx, api, question{path: groupAdmission + "validatingadmissionpolicybindings"}, whole[admissionv1.ValidatingAdmissionPolicyBinding])
		},
		func() {
			f.Webhooks = list(ctx, api, question{path: groupAdmission + "validatingwebhookconfigurations"}, whole[admissionv1.ValidatingWebhookConfiguration])
		},
		func() { f.Endpoints = endpoints(ctx, api, c) },
		func() { f.Daemons = daemons(ctx, api, c) },
		func() {
			f.Floor = get[doctor.Floor](ctx, api, "/api/v1/namespaces/"+url.PathEscape(c.Namespace)+"/configmaps/"+doctor.FloorName)
		},
	}
}

// pod drops what people write secrets into.
func pod(p *corev1.Pod) (corev1.Pod, bool) {
	p.Annotations, p.ManagedFields = nil, nil
	for _, containers := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range containers {
			containers[i].Env = nil
		}
	}
	for i := range p.Spec.EphemeralContainers {
		p.Spec.EphemeralContainers[i].Env = nil
	}
	return *p, true
}

// driver keeps DaemonSets that are CSI drivers of this kind and name.
func (c Config) driver(d *appsv1.DaemonSet) (appsv1.DaemonSet, bool) {
	is := false
	for i := range d.Spec.Template.Spec.Volumes {
		host := d.Spec.Template.Spec.Volumes[i].HostPath
		is = is || host != nil && strings.HasSuffix(strings.TrimSuffix(host.Path, "/"), "/plugins/csi-secrets-store")
	}
	for i := range d.Spec.Template.Spec.Containers {
		container := &d.Spec.Template.Spec.Containers[i]
		is = is || strings.Contains(container.Image, "portcullis-node") || strings.Contains(container.Image, "csi-secrets-store/driver")
		for _, a := range append(container.Command[:len(container.Command):len(container.Command)], container.Args...) {
			if name, found := strings.CutPrefix(strings.TrimPrefix(a, "-"), "-drivername="); found && name != c.Driver {
				return appsv1.DaemonSet{}, false
			}
		}
	}
	return *d, is
}

// classObject is what is read of a SecretProviderClass: no parameters.
type classObject struct {
	Metadata struct{ Namespace, Name string }
	Spec     struct {
		Provider      string
		SecretObjects []struct{}
	}
}

func class(o *classObject) (doctor.Class, bool) {
	return doctor.Class{Namespace: o.Metadata.Namespace, Name: o.Metadata.Name, Provider: o.Spec.Provider, SecretObjects: len(o.Spec.SecretObjects)}, true
}

// statusObject is what is read of a SecretProviderClassPodStatus.
type statusObject struct {
	Metadata struct {
		Namespace, Name string
		OwnerReferences []struct{ Kind, UID string }
	}
	Status struct{ PodName string }
}

func podStatus(o *statusObject) (doctor.PodStatus, bool) {
	s := doctor.PodStatus{Namespace: o.Metadata.Namespace, Name: o.Metadata.Name, Pod: o.Status.PodName}
	for _, owner := range o.Metadata.OwnerReferences {
		if owner.Kind == "Pod" {
			s.PodUID = owner.UID
		}
	}
	return s, true
}
