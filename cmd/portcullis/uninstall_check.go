package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/portcullis-csi/portcullis/policies/kube/cluster"
)

// uninstallOptions are the flags of portcullis uninstall-check.
type uninstallOptions struct {
	kubeconfig     string
	context        string
	driver         string
	terminationLog string
}

func uninstallCheckCommand() *cobra.Command {
	var o uninstallOptions
	cmd := &cobra.Command{
		Use:   "uninstall-check",
		Short: "List the pods that still use the driver",
		Long: `uninstall-check lists the pods with a volume of the driver, by namespace and owner,
and fails where there are any. The chart runs it before it is uninstalled: without
a plugin on its node no such pod can start or end, and running ones keep secrets
that nobody refreshes or revokes.

  portcullis uninstall-check --kubeconfig ~/.kube/config

A pod that has ended is no hindrance, unless it is being deleted: it then waits for
the plugin to unmount its volume. The right to list pods in all namespaces is needed.

Exit code 0: no pod uses the driver. 1: some do, or nobody could say. 2: wrong usage.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return uninstallCheckMain(cmd.Context(), o, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig (default as kubectl finds it; in a pod, its service account)")
	f.StringVar(&o.context, "context", "", "context of the kubeconfig (default: the current one)")
	f.StringVar(&o.driver, "driver", defaultDriver, "name of the CSI driver")
	f.StringVar(&o.terminationLog, "termination-log", "", "file that gets what is refused as well: the terminationMessagePath of the container (default: none)")
	return cmd
}

func uninstallCheckMain(ctx context.Context, o uninstallOptions, out io.Writer) error {
	err := uninstallCheck(ctx, o, out)
	if err == nil || o.terminationLog == "" {
		return err
	}
	// kubelet makes the file; where it is missing, the flag is a mistake.
	file, openErr := os.OpenFile(o.terminationLog, os.O_WRONLY|os.O_APPEND, 0)
	if openErr != nil {
		return errors.Join(err, openErr)
	}
	_, writeErr := io.WriteString(file, terminationText(err))
	return errors.Join(err, writeErr, file.Close())
}

// maxTermination is what kubelet reads of a termination message.
const maxTermination = 4096

func terminationText(err error) string {
	text := err.Error()
	if hinted, ok := errors.AsType[*hintedError](err); ok {
		text += "\nhint: " + hinted.hint
	}
	return text[:min(len(text), maxTermination)]
}

func uninstallCheck(ctx context.Context, o uninstallOptions, out io.Writer) error {
	config, _, err := cluster.Load(o.kubeconfig, o.context)
	if err != nil {
		problem, _, _ := strings.Cut(err.Error(), "; hint: ")
		return &hintedError{errors.New(visible(problem)), "give --kubeconfig, or run this in a pod of the cluster with a service account that may list pods"}
	}
	reader, err := cluster.New(config)
	if err != nil {
		return withHint(err)
	}
	found, err := driverUsers(ctx, reader, o.driver)
	if refused, ok := errors.AsType[*cluster.RefusedError](err); ok {
		return &hintedError{errors.New(visible(refused.Problem())), "nobody can say whether pods use the driver; " + uninstallRemedy(refused)}
	}
	if err != nil {
		return withHint(err)
	}
	if found.pods == 0 {
		fmt.Fprintf(out, "no pod uses the driver %s\n", visible(o.driver))
		return nil
	}
	found.write(out)
	return &hintedError{
		fmt.Errorf("%s of the driver %s: %s", counted(found.pods, "pod has a volume", "pods have volumes"), visible(o.driver), found.brief()),
		"delete them, or scale their owners to 0, and uninstall again when they are gone; to keep the driver, `helm rollback RELEASE REVISION`; " +
			"to uninstall all the same, `helm uninstall RELEASE --no-hooks`: they then can neither restart nor end until a driver is installed again",
	}
}

// uninstallRemedy speaks of rights in general: the hook has no files to give.
func uninstallRemedy(refused *cluster.RefusedError) string {
	if refused.Code == 0 || refused.Code >= 500 {
		return "try again when the API server answers: kubectl get --raw /readyz"
	}
	return "give the account the right to list pods in all namespaces"
}
