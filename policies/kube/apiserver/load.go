package apiserver

import (
	"errors"
	"fmt"
	"io/fs"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

var (
	errNotKubeconfig = errors.New("the file is not a kubeconfig: kubectl --kubeconfig shows what is wrong with it")
	errEmptyConfig   = errors.New("the file is empty")
)

// ErrNoConfig says that nothing tells where the API server is.
var ErrNoConfig = errors.New("no way to the API server: neither --kubeconfig is given nor is this a pod of a cluster: give --kubeconfig, or run the plugin as its DaemonSet")

// Load returns how to reach the API server: by the kubeconfig if there is a
// path, else as a pod of the cluster. It refuses plain http, a certificate that
// is not verified, and credentials that another program would have to fetch. It
// asks nobody.
func Load(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		return loadInCluster()
	}
	c, err := loadFile(kubeconfig)
	if err == nil {
		err = checkREST(c)
	}
	if err != nil {
		return nil, fmt.Errorf("read --kubeconfig %q: %w", kubeconfig, err)
	}
	return c, nil
}

// loadFile takes the file as it is. The library's usual loader would take the
// cluster around it when the file is empty.
func loadFile(path string) (*rest.Config, error) {
	rules := &clientcmd.ClientConfigLoadingRules{ExplicitPath: path}
	file, err := rules.Load()
	if foreign, ok := errors.AsType[*fs.PathError](err); ok {
		return nil, foreign
	}
	if err != nil {
		return nil, errNotKubeconfig // the reader's own text may quote a token
	}
	c, err := clientcmd.NewNonInteractiveClientConfig(*file, "", &clientcmd.ConfigOverrides{}, rules).ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		return nil, errEmptyConfig // the library's own text names an environment variable that nobody reads
	}
	return c, err
}

func loadInCluster() (*rest.Config, error) {
	c, err := rest.InClusterConfig()
	if errors.Is(err, rest.ErrNotInCluster) {
		return nil, ErrNoConfig
	}
	if err != nil {
		return nil, fmt.Errorf("read the pod's service account: %w: set automountServiceAccountToken, or give --kubeconfig", err)
	}
	if c.CAFile == "" {
		// The library goes on with the certificate authorities of the image.
		return nil, errors.New("read the pod's service account: its ca.crt is missing or holds no certificate: check the ConfigMap kube-root-ca.crt of the namespace")
	}
	return c, checkREST(c)
}
