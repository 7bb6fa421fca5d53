package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/portcullis-csi/portcullis/policies/diff"
	"github.com/portcullis-csi/portcullis/policies/eval"
	"github.com/portcullis-csi/portcullis/policies/explain"
	"github.com/portcullis-csi/portcullis/policies/kube/cluster"
	"github.com/portcullis-csi/portcullis/policies/kube/workload"
)

// diffOptions are the flags of portcullis policy diff.
type diffOptions struct {
	before, after string
	inputs        string
	atRecorded    bool
	verbose       bool
	objects       objectFlags
	now           nowFlag
	output        output
}

func policyDiffCommand() *cobra.Command {
	var o diffOptions
	cmd := &cobra.Command{
		Use:   "diff --old BUNDLE --new BUNDLE -f FILE|DIR|- | --inputs FILE|- | --cluster",
		Short: "Say which decisions change between two bundles",
		Long: `diff decides by two bundles on the same inputs and shows every decision whose effect
flips: by workload, with the rules that make the difference and the owners of the
grants, so that you know whom to call before the new bundle is in force.

  portcullis policy diff --old ./policy --new ./policy-next -f deploy/
  portcullis policy diff --old ./policy --new ./policy-next --cluster --all-namespaces
  portcullis audit input --all > decisions.ndjson
  portcullis policy diff --old a.tar.gz --new b.tar.gz --inputs decisions.ndjson

Inputs come from manifests or the pods of a cluster, as with policy explain, or are
recorded ones of a node's log. Both bundles decide at the same time: now, or --now;
with --recorded-time at that of each recorded decision. A bundle in monitor mode as
--old and the same without it as --new shows what enforcing would refuse.
--verbose also shows changes of rules, grants and obligations that flip nothing.

Exit code 0: nothing flips. 1: refused, failed, or too little could be read to say so.
2: wrong usage. 3: something flips.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return diffMain(cmd, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.before, "old", "", "bundle that is in force (required)")
	f.StringVar(&o.after, "new", "", "bundle that is to be (required)")
	f.StringVar(&o.inputs, "inputs", "", "file of recorded decisions, one a line, - for the standard input")
	f.BoolVar(&o.atRecorded, "recorded-time", false, "with --inputs: decide at the time of each recorded decision")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "also list changes that flip nothing")
	o.objects.add(cmd)
	o.now.add(cmd, "time to decide at (default: now)")
	addOutput(cmd, &o.output)
	completeBundle(cmd, "old", "new")
	_ = cmd.MarkFlagFilename("inputs", "ndjson", "json")
	return cmd
}

func (o diffOptions) check() error {
	switch {
	case o.inputs == "" && !o.objects.given():
		return &usageError{errors.New("none of -f, --inputs and --cluster is given")}
	case o.inputs != "" && o.objects.given():
		return &usageError{errors.New("--inputs goes neither with -f nor with --cluster: the inputs hold all that is decided on")}
	case o.atRecorded && (o.inputs == "" || o.now.text != ""):
		return &usageError{errors.New("--recorded-time needs --inputs, and excludes --now")}
	}
	return nil
}

// diffReport is the form of --output json: for machines, stable, and bounded.
type diffReport struct {
	Old bundleRef `json:"old"`
	New bundleRef `json:"new"`
	diff.Report
	InputGone    int64         `json:"inputGone"`   // recorded decisions whose input was dropped
	NotCompared  []notCompared `json:"notCompared"` // volumes without an input, at most a thousand
	NotComparedN int64         `json:"notComparedCount"`
	// Unanswered are those of them of which the API server would not say what they
	// refer to: they may flip.
	Unanswered int64 `json:"unanswered"`

	refused *cluster.RefusedError // the first of them
}

// notCompared is a volume that neither bundle is asked about.
type notCompared struct {
	Workload diff.Workload    `json:"workload"`
	Volume   string           `json:"volume"`
	Problem  *explain.Problem `json:"problem"`
}

const maxNotCompared = 1000

func diffMain(cmd *cobra.Command, o diffOptions) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	now, err := o.now.orClock()
	if err != nil {
		return err
	}
	r := diffReport{NotCompared: []notCompared{}}
	var before, after diff.Side
	if before, r.Old, err = openSide(cmd.Context(), "old", o.before, now); err != nil {
		return err
	}
	if after, r.New, err = openSide(cmd.Context(), "new", o.after, now); err != nil {
		return err
	}
	source, closer, err := o.source(cmd, now, &r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closer()) }()
	counter := newProgress(cmd.ErrOrStderr(), "inputs compared:")
	r.Report, err = diff.Run(cmd.Context(), diff.Config{
		Old: before, New: after, Verbose: o.verbose, Progress: func(n int64) { counter.at(n, 0) },
	}, source)
	if err != nil {
		return withHint(err)
	}
	if err := o.output.print(r, func(w io.Writer) { printDiff(w, &r) }); err != nil {
		return err
	}
	switch {
	case r.Flips > 0:
		return errAnswerIsNo
	case r.Unanswered > 0:
		return withHint(fmt.Errorf("%d volumes were not compared, the first for this: %w", r.Unanswered, r.refused))
	case r.Cases == 0 && r.NotComparedN > 0:
		return &hintedError{fmt.Errorf("none of %d volumes could be compared", r.NotComparedN), "the lines above say why; none of them can be mounted as it is"}
	case o.inputs != "" && r.Cases == 0:
		return nothingRecorded(r.InputGone)
	default:
		return nil
	}
}

func openSide(ctx context.Context, flag, path string, now time.Time) (diff.Side, bundleRef, error) {
	p, err := openPolicy(ctx, flag, path, now)
	if err != nil {
		return diff.Side{}, bundleRef{}, err
	}
	contents, err := p.bundle.Contents()
	if err != nil {
		return diff.Side{}, bundleRef{}, err
	}
	return diff.Side{Engine: p.engine, Grants: explain.NewGrants(contents)}, p.ref(), nil
}

// source returns where cases come from; what cannot be compared is counted in r.
func (o diffOptions) source(cmd *cobra.Command, now time.Time, r *diffReport) (diff.Source, func() error, error) {
	if o.inputs == "" {
		found, err := o.objects.open(cmd.InOrStdin(), now)
		if err != nil {
			return nil, nil, err
		}
		return r.ofObjects(found), func() error { return nil }, nil
	}
	from, closer, err := openInput(cmd, o.inputs)
	if err != nil {
		return nil, nil, err
	}
	if o.atRecorded {
		now = time.Time{}
	}
	return r.ofRecorded(from, now), closer, nil
}

func (r *diffReport) ofObjects(found *objects) diff.Source {
	return func(ctx context.Context, emit func(diff.Case) error) error {
		seen := false
		err := found.volumes(ctx, func(v workload.Volume) error {
			seen = true
			w := diff.Workload{Namespace: v.Workload.Namespace, Kind: v.Workload.Kind, Name: v.Workload.Name}
			if v.Err != nil {
				r.unanswered(v.Err)
				if r.NotComparedN++; r.NotComparedN <= maxNotCompared {
					r.NotCompared = append(r.NotCompared, notCompared{w, v.Name, explain.ProblemOf(v.Err)})
				}
				return nil
			}
			k := diff.Case{Input: v.Input, Workload: w, Example: v.Workload.Source}
			if v.Workload.Source == "" {
				k.Workload, k.Example = diff.Workload{}, v.Workload.Name // a running pod: its owner is the workload
			}
			return emit(k)
		})
		if err == nil && !seen {
			return found.noVolumes()
		}
		return err
	}
}

// unanswered counts what nobody could say anything about.
func (r *diffReport) unanswered(err error) {
	if refused, ok := errors.AsType[*cluster.RefusedError](err); ok {
		if r.Unanswered++; r.refused == nil {
			r.refused = refused
		}
	}
}

func (r *diffReport) ofRecorded(from io.Reader, now time.Time) diff.Source {
	return func(_ context.Context, emit func(diff.Case) error) error {
		return eval.Recorded(from, func(l eval.Line) error {
			if !l.Kept {
				r.InputGone++
				return nil
			}
			if !now.IsZero() {
				l.Facts.NowNS = now.UnixNano()
			}
			return emit(diff.Case{Input: l.Facts, Weight: 1 + max(l.Repeated, 0), Example: l.EventID})
		})
	}
}
