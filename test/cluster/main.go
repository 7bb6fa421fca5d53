// Command cluster runs the test cluster for people: a whole one-node Kubernetes,
// or only its API server.
//
//	go run ./test/cluster up      starts it
//	go run ./test/cluster install puts the driver and a sample into it
//	go run ./test/cluster exec kubectl get nodes
//	go run ./test/cluster down    leaves nothing behind
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/portcullis-csi/portcullis/test/cluster/controlplane"
	"github.com/portcullis-csi/portcullis/test/cluster/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := root().ExecuteContext(ctx)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		os.Exit(exit.ExitCode()) //nolint:gocritic // stop only restores a signal handler
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func root() *cobra.Command {
	c := &cobra.Command{
		Use:   "cluster",
		Short: "A whole one-node Kubernetes, or only its API server, on this machine",
		Long: `cluster runs what the tests run, for people: etcd, the control plane, kubelet,
containerd and runc in private namespaces, without Docker, systemd or a
registry, and without a way out of the machine. It needs root, gcc,
pkg-config, libseccomp-dev, iproute2 and busybox-static.

Programs are built once per version into ~/.cache/portcullis/cluster, or
below PORTCULLIS_CLUSTER. That takes ten minutes; later starts take seconds.`,
		SilenceUsage: true, SilenceErrors: true, CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	c.AddCommand(buildCommand(), upCommand(), installCommand(), downCommand(), execCommand(), apiserverCommand())
	return c
}

func versionFlag(c *cobra.Command) *string {
	return c.Flags().String("kubernetes", string(lab.V137), "version of Kubernetes: 1.37 or 1.35")
}

const defaultName = "lab"

func nameFlag(c *cobra.Command) *string {
	return c.Flags().String("name", defaultName, "name of the lab: there can be several at once")
}

func buildCommand() *cobra.Command {
	c := &cobra.Command{Use: "build", Short: "Build all programs, once per version, and print where they are", Args: cobra.NoArgs}
	version := versionFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		p, err := lab.Build(c.Context(), lab.Version(*version), os.Stderr)
		if err != nil {
			return err
		}
		for _, dir := range []string{p.Kubernetes, p.Containerd, p.Runc, p.CNI, p.Node} {
			fmt.Println(dir)
		}
		return nil
	}
	return c
}

func upCommand() *cobra.Command {
	c := &cobra.Command{Use: "up", Short: "Start a lab, and say how to use it", Args: cobra.NoArgs}
	version, name := versionFlag(c), nameFlag(c)
	limit := c.Flags().Duration("limit", 8*time.Hour, "end the lab after this time")
	c.RunE = func(c *cobra.Command, _ []string) error {
		l, err := lab.Up(c.Context(), lab.Config{Name: *name, Kubernetes: lab.Version(*version), Limit: *limit, Progress: os.Stderr})
		if err != nil {
			return err
		}
		fmt.Printf(`Kubernetes %[1]s is up, for %[2]v:

  go run ./test/cluster exec%[3]s kubectl get nodes   a command in the node, as administrator
  go run ./test/cluster exec%[3]s bash                a shell in it
  go run ./test/cluster down%[3]s                     its end

  image for pods:    %[4]s, or busybox:1.37
  the node's files:  %[5]s
  kubelet's log:     %[6]s
  audit log:         %[7]s
`, *version, *limit, nameOption(*name), lab.BusyboxImage, l.Root(), l.Log(lab.Kubelet), l.AuditLog())
		return nil
	}
	return c
}

func downCommand() *cobra.Command {
	c := &cobra.Command{Use: "down", Short: "End a lab and leave nothing behind", Args: cobra.NoArgs}
	name := nameFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error { return lab.Down(c.Context(), *name) }
	return c
}

func execCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "exec [flags] COMMAND [ARG...]", Short: "Run a command in a lab's node, as the cluster's administrator",
		Example: "  cluster exec kubectl get pods -A\n  cluster exec bash",
		Args:    cobra.MinimumNArgs(1),
	}
	c.Flags().SetInterspersed(false) // flags after the command are the command's
	name := nameFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		l, err := lab.Open(*name)
		if err != nil {
			return err
		}
		// Ctrl-C is for the command, which has the same terminal.
		cmd := l.Command(context.WithoutCancel(c.Context()), args[0], args[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		return cmd.Run()
	}
	return c
}

func apiserverCommand() *cobra.Command {
	return &cobra.Command{
		Use: "apiserver", Short: "Run etcd and kube-apiserver alone until Ctrl-C, and print where the kubeconfig is", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return serveAPI(c.Context()) },
	}
}

func serveAPI(ctx context.Context) error {
	programs, err := controlplane.Build(ctx, os.Stderr)
	if err != nil {
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
