package lab

import (
	"crypto/x509/pkix"
	"os"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/portcullis-csi/portcullis/test/cluster/authority"
)

// identity is a certificate of the cluster.
type identity struct {
	file       string
	name       string
	groups     []string
	hosts      []string
	kubeconfig bool
}

func identities() []identity {
	return []identity{
		{file: "apiserver", name: "kube-apiserver", hosts: []string{
			nodeAddress, serviceAddress, "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
		}},
		{file: "apiserver-kubelet-client", name: "kube-apiserver-kubelet-client", groups: []string{"system:masters"}},
		{file: "front-proxy-client", name: "front-proxy-client"},
		{file: "admin", name: "kubernetes-admin", groups: []string{"system:masters"}, kubeconfig: true},
		{file: "controller-manager", name: "system:kube-controller-manager", kubeconfig: true},
		{file: "scheduler", name: "system:kube-scheduler", kubeconfig: true},
		// What the Node authorizer and NodeRestriction go by.
		{file: "kubelet", name: "system:node:" + nodeName, groups: []string{"system:nodes"}, kubeconfig: true},
	}
}

// writeKeys writes the keys, certificates and kubeconfigs of a new cluster.
func writeKeys(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	write := func(name string, content []byte) error { return os.WriteFile(filepath.Join(dir, name), content, 0o600) }
	ca, err := authority.New()
	if err != nil {
		return err
	}
	if err := write("ca.crt", ca.PEM()); err != nil {
		return err
	}
	for _, id := range identities() {
		cert, key, err := ca.Issue(pkix.Name{CommonName: id.name, Organization: id.groups}, id.hosts...)
		if err != nil {
			return err
		}
		if err := write(id.file+".crt", cert); err != nil {
			return err
		}
		if err := write(id.file+".key", key); err != nil {
			return err
		}
		if !id.kubeconfig {
			continue
		}
		if err := clientcmd.WriteToFile(kubeconfig(ca.PEM(), cert, key), filepath.Join(dir, id.file+".kubeconfig")); err != nil {
			return err
		}
	}
	private, public, err := authority.NewServiceAccountKey()
	if err != nil {
		return err
	}
	if err := write("sa.key", private); err != nil {
		return err
	}
	return write("sa.pub", public)
}

func kubeconfig(ca, cert, key []byte) clientcmdapi.Config {
	const name = "lab"
	c := clientcmdapi.NewConfig()
	c.Clusters[name] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: ca}
	c.AuthInfos[name] = &clientcmdapi.AuthInfo{ClientCertificateData: cert, ClientKeyData: key}
	c.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	c.CurrentContext = name
	return *c
}
