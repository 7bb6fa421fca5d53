package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/portcullis-csi/portcullis/policies/eval"
	"github.com/portcullis-csi/portcullis/policies/learn"
)

// learnOptions are the flags of portcullis policy learn.
type learnOptions struct {
	inputs  string
	policy  string
	effects []string
	owner   string
	expiry  string
	narrow  bool
	output  output
}

func learnCommand() *cobra.Command {
	var o learnOptions
	cmd := &cobra.Command{
		Use:   "learn --inputs FILE|- [--policy BUNDLE]",
		Short: "Draft grants from recorded decisions, for review",
		Long: `learn reads recorded decisions and drafts the least grants that would have let
them through: each names one namespace, one service account, and every secret by
its whole id. Mostly they are of a bundle in monitor mode, which lets through what
nothing grants yet.

  portcullis audit input --all | portcullis policy learn --inputs - > drafts.yaml

With --policy, what that bundle grants already is left out, and rules that object
for another reason than a missing grant are listed: no grant mends those.

A draft is what was asked for, not what should be granted: whoever attacked while
it was recorded is in it. Set owner and expiry, take out what nobody needs, and put
the rest into portcullis/grants of your bundle.

Exit code 0: drafted, also where there is nothing to draft. 1: refused or failed.
2: wrong usage.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.inputs == "" {
				return &usageError{errors.New("--inputs is missing")}
			}
			return learnMain(cmd.Context(), o, cmd.InOrStdin(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.inputs, "inputs", "", "recorded decisions, as audit input --all writes them; - reads them from standard input (required)")
	f.StringVar(&o.policy, "policy", "", "bundle whose grants are left out (default: none)")
	f.StringSliceVar(&o.effects, "effect", []string{learn.EffectMonitored}, "learn from decisions with these effects: allow, allowed_monitored, deny")
	f.StringVar(&o.owner, "owner", learn.DefaultOwner, "owner that the drafts name")
	f.StringVar(&o.expiry, "expiry", "", "last day of the drafts, YYYY-MM-DD (default: in 90 days)")
	f.BoolVar(&o.narrow, "narrow", false, "narrow the drafts to owners and image repositories of the pods that asked")
	addOutput(cmd, &o.output)
	return cmd
}

func learnMain(ctx context.Context, o learnOptions, stdin io.Reader, messages io.Writer) error {
	learner, err := o.learner(ctx)
	if err != nil {
		return err
	}
	inputs := stdin
	if o.inputs != "-" {
		f, err := os.Open(o.inputs)
		if err != nil {
			return fmt.Errorf("open recorded decisions: %w", err)
		}
		defer f.Close()
		inputs = f
	}
	say := newProgress(messages, "decisions read:")
	err = eval.Recorded(inputs, func(l eval.Line) error {
		say.at(l.Number, 0)
		return learner.Add(ctx, l.Recorded)
	})
	if err != nil {
		return withHint(err)
	}
	result := learner.Result()
	return o.output.printFallibly(result, func(w io.Writer) error { return learn.WriteYAML(w, result) })
}

func (o learnOptions) learner(ctx context.Context) (*learn.Learner, error) {
	c := learn.Config{Effects: o.effects, Owner: o.owner, Narrow: o.narrow, Now: time.Now()}
	if o.expiry != "" {
		day, err := time.Parse(time.DateOnly, o.expiry)
		if err != nil {
			return nil, &usageError{fmt.Errorf("--expiry %q is not a date such as 2026-12-31", o.expiry)}
		}
		c.Expiry = day
	}
	if o.policy != "" {
		opened, err := openPolicy(ctx, "policy", o.policy, c.Now)
		if err != nil {
			return nil, err
		}
		c.Engine = opened.engine
	}
	learner, err := learn.New(c)
	return learner, hinted(err)
}
