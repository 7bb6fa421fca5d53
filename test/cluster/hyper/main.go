// Command hyper is etcd and kube-apiserver in one program, chosen by the name
// it is called by: they share most of their packages, so that one link does.
//
// Its go.mod repeats every replace line of k8s.io/kubernetes with the version
// that is published, since a replace counts in the main module only.
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
)

// lifeline names the variable with the number of a descriptor that stays open
// as long as whoever started this process lives.
const lifeline = "PORTCULLIS_LIFELINE"

func main() {
	endWithCaller()
	switch name := filepath.Base(os.Args[0]); name {
	case "etcd":
		etcdmain.Main(os.Args)
	case "kube-apiserver":
		os.Exit(cli.Run(apiserver.NewAPIServerCommand()))
	default:
		fmt.Fprintf(os.Stderr, "hyper: %q is neither etcd nor kube-apiserver: call it through a link of that name\n", name)
		os.Exit(2)
	}
}

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
