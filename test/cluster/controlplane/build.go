package controlplane

import (
	"context"
	"io"

	"github.com/portcullis-csi/portcullis/test/cluster/programs"
)

// The names that the one binary answers to.
const (
	etcd      = "etcd"
	apiserver = "kube-apiserver"
)

// Build returns the directory with the programs, building them first where this
// version was never built on this machine: five to ten minutes on two cores
// with an empty build cache. Progress is told on the writer. Binaries are kept
// outside the clone, below PORTCULLIS_CLUSTER or the user's cache directory.
func Build(ctx context.Context, progress io.Writer) (string, error) {
	module, err := programs.Kubernetes(programs.Kubernetes137)
	if err != nil {
		return "", err
	}
	return module.Build(ctx, progress)
}
