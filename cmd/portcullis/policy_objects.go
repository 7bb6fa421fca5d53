package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-csi/portcullis/policies/kube/cluster"
	"github.com/portcullis-csi/portcullis/policies/kube/workload"
)

const (
	defaultDriver  = "secrets-store.csi.k8s.io"
	defaultCluster = "ci"
)

// objectFlags say where Kubernetes objects come from.
type objectFlags struct {
	files         []string
	namespace     string
	cluster       bool
	kubeconfig    string
	context       string
	allNamespaces bool
	clusterName   string
	driver        string
}

func (o *objectFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVarP(&o.files, "filename", "f", nil, "manifests: a file, a directory with all in it, or - for the standard input; may be repeated")
	f.StringVarP(&o.namespace, "namespace", "n", "", "namespace of manifests that name none (default \"default\"); with --cluster and no -f: whose pods")
	f.BoolVar(&o.cluster, "cluster", false, "read classes, namespaces and service accounts from a cluster, and without -f the pods too")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig (default as kubectl finds it)")
	f.StringVar(&o.context, "context", "", "context of the kubeconfig (default: the current one)")
	f.BoolVarP(&o.allNamespaces, "all-namespaces", "A", false, "with --cluster: the pods of all namespaces")
	f.StringVar(&o.clusterName, "cluster-name", defaultCluster, "name of the cluster, for policies that ask for it: what the plugin has as --cluster-name")
	f.StringVar(&o.driver, "driver", defaultDriver, "name of the CSI driver")
	_ = cmd.MarkFlagFilename("filename", "yaml", "yml", "json")
}

// given reports whether the flags name any objects.
func (o *objectFlags) given() bool { return len(o.files) > 0 || o.cluster }

func (o *objectFlags) check() error {
	switch {
	case !o.cluster && (o.kubeconfig != "" || o.context != "" || o.allNamespaces):
		return &usageError{errors.New("--kubeconfig, --context and --all-namespaces need --cluster")}
	case o.allNamespaces && (o.namespace != "" || len(o.files) > 0):
		return &usageError{errors.New("--all-namespaces goes neither with --namespace nor with -f")}
	}
	return nil
}

// objects are workloads and where the rest is found.
type objects struct {
	circumstances workload.Circumstances
	manifests     *workload.Objects
	live          *cluster.Reader // nil: no cluster
	podsOf        string          // namespace, "" for all; only without manifests
}

// open reads manifests and finds the cluster; it asks the cluster for nothing.
func (o *objectFlags) open(stdin io.Reader, now time.Time) (*objects, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	found := &objects{circumstances: workload.Circumstances{Now: now, Cluster: o.clusterName, DriverName: o.driver}}
	namespace := o.namespace
	if o.cluster {
		config, ofContext, err := cluster.Load(o.kubeconfig, o.context)
		if err == nil {
			found.live, err = cluster.New(config)
		}
		if err != nil {
			return nil, withHint(err)
		}
		if namespace == "" {
			namespace = ofContext
		}
	}
	if namespace == "" {
		namespace = corev1.NamespaceDefault
	}
	files, err := workload.ReadFiles(o.files, stdin)
	if err != nil {
		return nil, withHint(err)
	}
	if found.manifests, err = workload.Parse(files, namespace); err != nil {
		return nil, withHint(err)
	}
	found.circumstances.Sources = []workload.Source{found.manifests}
	if o.cluster {
		found.circumstances.Sources = append(found.circumstances.Sources, found.live)
	}
	if found.podsOf = namespace; o.allNamespaces {
		found.podsOf = ""
	}
	return found, nil
}

// volumes calls each for every volume of the driver: in the manifests, or else in
// the pods of the cluster.
func (o *objects) volumes(ctx context.Context, each func(workload.Volume) error) error {
	visit := func(w *workload.Workload) error {
		for _, v := range o.circumstances.Volumes(ctx, w) {
			if err := each(v); err != nil {
				return err
			}
		}
		return ctx.Err()
	}
	workloads := o.manifests.Workloads()
	if len(workloads) == 0 && o.live != nil {
		err := o.livePods(ctx, each)
		if _, ok := errors.AsType[*cluster.RefusedError](err); ok {
			return withHint(err)
		}
		return err
	}
	for _, w := range workloads {
		if err := visit(w); err != nil {
			return err
		}
	}
	return nil
}

// noVolumes says why there is nothing to decide.
func (o *objects) noVolumes() error {
	found := fmt.Sprintf("%d workloads", len(o.manifests.Workloads()))
	if ignored := kinds(o.manifests.Ignored); ignored != "" {
		found += ", " + ignored
	}
	if o.live != nil && len(o.manifests.Workloads()) == 0 {
		found = "pods of the cluster that run"
	}
	return &hintedError{
		fmt.Errorf("no volume of the driver %q is in what was read: %s", o.circumstances.DriverName, visible(found)),
		"a volume has csi.driver with this name; --driver gives another",
	}
}

// kinds lists what was read and has no volumes.
func kinds(ignored map[string]int) string {
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(ignored)) {
		parts = append(parts, fmt.Sprintf("%d %s", ignored[kind], kind))
	}
	return strings.Join(parts, ", ")
}
