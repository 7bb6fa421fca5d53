// Command cluster runs the test cluster for people.
//
//	go run ./test/cluster build       builds etcd and kube-apiserver, once per version
//	go run ./test/cluster apiserver   runs them until Ctrl-C, and says where the kubeconfig is
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/portcullis-csi/portcullis/test/cluster/controlplane"
)

const usage = `usage: go run ./test/cluster build|apiserver

  build      build etcd and kube-apiserver once per version, and print where they are
  apiserver  run them until Ctrl-C; prints the path of a kubeconfig
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // stop only restores a signal handler
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 1 || args[0] != "build" && args[0] != "apiserver" {
		fmt.Fprint(os.Stderr, usage)
		return errors.New("no such command; hint: name one of the two")
	}
	programs, err := controlplane.Build(ctx, os.Stderr)
	if err != nil || args[0] == "build" {
		fmt.Println(programs)
		return err
	}
	cp, err := controlplane.Start(ctx, programs, controlplane.Config{})
	if err != nil {
		return err
	}
	config := cp.Admin()
	file := clientcmdapi.NewConfig()
	file.Clusters["test"] = &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	file.AuthInfos["test"] = &clientcmdapi.AuthInfo{ClientCertificateData: config.CertData, ClientKeyData: config.KeyData}
	file.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: "test"}
	file.CurrentContext = "test"
	path := cp.Path("kubeconfig")
	if err := clientcmd.WriteToFile(*file, path); err != nil {
		return errors.Join(err, cp.Stop())
	}
	fmt.Println("export KUBECONFIG=" + path)
	<-ctx.Done()
	return cp.Stop()
}
