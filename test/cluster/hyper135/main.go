// Command hyper is etcd and all programs of Kubernetes in one, chosen by the
// name it is called by: they share most of their packages, so that one link and
// one file do instead of six.
//
// Its go.mod repeats every replace line of k8s.io/kubernetes with the version
// that is published, since a replace counts in the main module only.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// lifeline names the variable with the number of a descriptor that stays open
// as long as whoever started this process lives.
const lifeline = "PORTCULLIS_LIFELINE"

func main() {
	endWithCaller()
	switch name := filepath.Base(os.Args[0]); name {
	case "etcd":
		etcdmain.Main(os.Args)
	case "kubectl":
		if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
			kubectlutil.CheckErr(err)
		}
	case "kube-apiserver":
		run(apiserver.NewAPIServerCommand())
	case "kube-controller-manager":
		run(controllermanager.NewControllerManagerCommand())
	case "kube-scheduler":
		run(scheduler.NewSchedulerCommand())
	case "kubelet":
		run(kubelet.NewKubeletCommand(context.Background()))
	default:
		fmt.Fprintf(os.Stderr, "hyper: %q is none of its programs; hint: call it through a link named etcd, kubectl, kubelet or kube-...\n", name)
		os.Exit(2)
	}
}

func run(command *cobra.Command) { os.Exit(cli.Run(command)) }

// endWithCaller makes the process end with the one that started it, also if
// that was killed: a test leaves nothing behind.
func endWithCaller() {
	fd, err := strconv.Atoi(os.Getenv(lifeline))
	if err != nil {
		return
	}
	line := os.NewFile(uintptr(fd), lifeline)
	go func() {
		_, _ = io.Copy(io.Discard, line)
		os.Exit(3)
	}()
}
