package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/portcullis-csi/portcullis/policies/explain"
	"github.com/portcullis-csi/portcullis/policies/kube/workload"
)

// explainOptions are the flags of portcullis policy explain.
type explainOptions struct {
	policy  string
	objects objectFlags
	now     nowFlag
	output  output
}

func policyExplainCommand() *cobra.Command {
	var o explainOptions
	cmd := &cobra.Command{
		Use:   "explain --policy BUNDLE -f FILE|DIR|- | --cluster",
		Short: "Say of each secrets volume whether it is allowed, and what to change",
		Long: `explain finds every secrets volume in manifests, or in the pods of a cluster, and
says whether policy allows it: by which grant each secret is served, or which rule
refuses it, what to change, which grants nearly fit, and the smallest grant to ask
the security team for.

  portcullis policy explain --policy ./policy -f deploy/
  helm template . | portcullis policy explain --policy ./policy -f - -n payments
  portcullis policy explain --policy ./policy -f deploy/ --cluster
  portcullis policy explain --policy ./policy --cluster --all-namespaces

Pods and what makes pods are read: Deployment, StatefulSet, DaemonSet, ReplicaSet,
ReplicationController, Job, CronJob and PodTemplate; List too. Other kinds are
skipped. Classes, namespaces and service accounts are taken from the manifests, with
--cluster else from the cluster, which is asked with your own rights: get
secretproviderclasses, namespaces and serviceaccounts, and list pods, never Secrets.
What nobody has is assumed, and the answer says so; a class must exist.
What only a node knows is absent (phase ci): node, tokens and the names that are
generated. docs/POLICIES.md lists the fields.

Exit code 0: all allowed. 1: refused or failed. 2: wrong usage. 3: something is
denied or undecided.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return explainMain(cmd, o) },
	}
	cmd.Flags().StringVar(&o.policy, "policy", "", "policy bundle (required)")
	o.objects.add(cmd)
	o.now.add(cmd, "time to decide at (default: now)")
	addOutput(cmd, &o.output)
	completeBundle(cmd, "policy")
	return cmd
}

// explainReport is the form of --output json: for machines, and stable.
type explainReport struct {
	Bundle  bundleRef        `json:"bundle"`
	Volumes []explain.Answer `json:"volumes"`
	Counts  explain.Counts   `json:"counts"`
	Ignored map[string]int   `json:"ignored"` // objects of kinds without secrets volumes
}

func explainMain(cmd *cobra.Command, o explainOptions) error {
	if !o.objects.given() {
		return &usageError{errors.New("neither -f nor --cluster is given")}
	}
	now, err := o.now.orClock()
	if err != nil {
		return err
	}
	policy, err := openPolicy(cmd.Context(), "policy", o.policy, now)
	if err != nil {
		return err
	}
	explainer, err := explain.New(policy.engine, policy.bundle, now)
	if err != nil {
		return err
	}
	found, err := o.objects.open(cmd.InOrStdin(), now)
	if err != nil {
		return err
	}
	r := explainReport{Bundle: policy.ref(), Volumes: []explain.Answer{}, Ignored: found.manifests.Ignored}
	counter := newProgress(cmd.ErrOrStderr(), "volumes explained:")
	err = found.volumes(cmd.Context(), func(v workload.Volume) error {
		r.Volumes = append(r.Volumes, explainer.Volume(cmd.Context(), v))
		counter.at(int64(len(r.Volumes)), 0)
		return nil
	})
	if err != nil {
		return err
	}
	if len(r.Volumes) == 0 {
		return found.noVolumes()
	}
	r.Counts = explain.Count(r.Volumes)
	if err := o.output.print(r, func(w io.Writer) { printExplain(w, r) }); err != nil {
		return err
	}
	if !r.Counts.AllAllowed() {
		return errAnswerIsNo
	}
	return nil
}

func printExplain(out io.Writer, r explainReport) {
	for i := range r.Volumes {
		var b strings.Builder
		writeAnswer(&b, &r.Volumes[i])
		_, _ = io.WriteString(out, visible(b.String())+"\n")
	}
	printCounts(out, r.Counts, 0)
	if ignored := kinds(r.Ignored); ignored != "" {
		fmt.Fprintf(out, "not looked into: %s\n", visible(ignored))
	}
}
