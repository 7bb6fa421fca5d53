package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/eval"
	"github.com/portcullis-csi/portcullis/policies/explain"
)

// evalOptions are the flags of portcullis policy eval.
type evalOptions struct {
	policy, input string
	recorded      bool
	trace         bool
	rule          string
	now           nowFlag
	output        output
}

func policyEvalCommand() *cobra.Command {
	var o evalOptions
	cmd := &cobra.Command{
		Use:   "eval --policy BUNDLE --input FILE|-",
		Short: "Decide on an input and show the whole decision",
		Long: `eval decides on one input, as every gate would, and shows the whole decision: the
effect, each finding with its remedy, grants, waivers and obligations. The input is
JSON of the contract portcullis/v1; docs/POLICIES.md lists its fields, and one that
does not fit is refused with the name of the field. Without phase it is ci, and
without now_ns it is now.

  portcullis policy test --show-input > input.json
  portcullis policy eval --policy ./policy --input input.json
  portcullis policy eval --policy ./policy --input input.json --explain PR-203
  portcullis policy eval --policy ./policy --input decisions.ndjson --recorded

With --recorded the input is recorded decisions, one a line, as portcullis audit
input --all writes them; each is decided again at the time that it was made, or at
--now. --trace adds which expressions did not hold, --explain each step of one rule
or check: with every finding that it makes, and every point where it ended without
one.

Exit code 0: allowed. 1: refused or failed. 2: wrong usage. 3: denied or undecided.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return evalMain(cmd, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.policy, "policy", "", "policy bundle (required)")
	f.StringVar(&o.input, "input", "", "file with the input, - for the standard input (required)")
	f.BoolVar(&o.recorded, "recorded", false, "the file holds recorded decisions, one a line")
	f.BoolVar(&o.trace, "trace", false, "show the expressions that did not hold")
	f.StringVar(&o.rule, "explain", "", "show each step of the rule with this id, such as PR-203, or of the check with this name")
	o.now.add(cmd, "time of the decision (default: that in the input, else now)")
	addOutput(cmd, &o.output)
	completeBundle(cmd, "policy")
	_ = cmd.MarkFlagFilename("input", "json", "ndjson")
	return cmd
}

func evalMain(cmd *cobra.Command, o evalOptions) (err error) {
	switch {
	case o.input == "":
		return &usageError{errors.New("--input is missing")}
	case o.recorded && (o.trace || o.rule != ""):
		return &usageError{errors.New("--trace and --explain are about one input, not about recorded ones")}
	case o.trace && o.rule != "":
		return &usageError{errors.New("--trace and --explain exclude each other")}
	}
	now, err := o.now.orClock()
	if err != nil {
		return err
	}
	policy, err := openPolicy(cmd.Context(), "policy", o.policy, now)
	if err != nil {
		return err
	}
	from, closer, err := openInput(cmd, o.input)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closer()) }()
	if o.recorded {
		return evalRecorded(cmd.Context(), o, policy, from)
	}
	return evalOne(cmd.Context(), o, policy, from)
}

// openInput opens a file, or the standard input for "-".
func openInput(cmd *cobra.Command, path string) (io.Reader, func() error, error) {
	if path == "-" {
		return cmd.InOrStdin(), func() error { return nil }, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read input: %w", err)
	}
	return f, f.Close, nil
}

// evalReport is the form of --output json.
type evalReport struct {
	eval.Decision
	Trace        []string `json:"trace,omitempty"`
	TraceDropped int      `json:"traceDropped,omitempty"`
}

func evalOne(ctx context.Context, o evalOptions, policy openedPolicy, from io.Reader) error {
	schema, err := eval.NewSchema()
	if err != nil {
		return err
	}
	given, err := o.now.given()
	if err != nil {
		return err
	}
	in, err := schema.Read(from, eval.Clock{Given: given, Present: time.Now()})
	if err != nil {
		return withHint(err)
	}
	d, trace, err := o.decide(ctx, policy, in)
	if err != nil {
		return err
	}
	r := evalReport{Decision: eval.Of(d), TraceDropped: trace.Dropped}
	if text := strings.TrimRight(string(trace.Text), "\n"); text != "" {
		r.Trace = strings.Split(text, "\n")
	}
	if err := o.output.print(r, func(w io.Writer) { printEval(w, r) }); err != nil {
		return err
	}
	return noUnlessAllowed(r.Effect)
}

func (o evalOptions) decide(ctx context.Context, p openedPolicy, in policies.Input) (policies.Decision, policies.Trace, error) {
	switch {
	case o.rule != "":
		spans, err := p.bundle.Spans(o.rule)
		if err != nil {
			return policies.Decision{}, policies.Trace{}, &hintedError{
				fmt.Errorf("--explain %q: %w", o.rule, err),
				"name the id of a rule in Rego, such as PR-001, or a check of the bundle; PR-003, PR-102, PR-110 and PR-120 are not in Rego",
			}
		}
		d, t := p.engine.TraceSpans(ctx, in, spans)
		return d, t, nil
	case o.trace:
		d, t := p.engine.TraceFails(ctx, in)
		return d, t, nil
	default:
		return p.engine.Decide(ctx, in), policies.Trace{}, nil
	}
}

func noUnlessAllowed(e explain.Effect) error {
	if e == explain.Allow || e == explain.AllowedMonitored {
		return nil
	}
	return errAnswerIsNo
}

// evalRecorded prints as it reads: JSON is one decision a line.
func evalRecorded(ctx context.Context, o evalOptions, policy openedPolicy, from io.Reader) error {
	now, err := o.now.given()
	if err != nil {
		return err
	}
	lines := json.NewEncoder(o.output.out)
	lines.SetEscapeHTML(false)
	counts, gone := explain.Counts{}, 0
	err = eval.Recorded(from, func(l eval.Line) error {
		if !l.Kept {
			gone++
			return ctx.Err()
		}
		if !now.IsZero() {
			l.Facts.NowNS = now.UnixNano()
		}
		d := eval.Of(policy.engine.Decide(ctx, l.Facts))
		d.EventID = l.EventID
		counts[d.Effect]++
		if o.output.form == outputJSON {
			return errors.Join(lines.Encode(d), ctx.Err())
		}
		printRecorded(o.output.out, d)
		return ctx.Err()
	})
	if err != nil {
		return withHint(err)
	}
	if o.output.form != outputJSON {
		printCounts(o.output.out, counts, gone)
	}
	switch {
	case len(counts) == 0:
		return nothingRecorded(int64(gone))
	case !counts.AllAllowed():
		return errAnswerIsNo
	default:
		return nil
	}
}

// nothingRecorded keeps an empty answer from looking like a good one.
func nothingRecorded(gone int64) error {
	return &hintedError{
		fmt.Errorf("no recorded decision with its input is in what was read, and %d whose input is gone", gone),
		"the oldest inputs go first, so take them from the log in time: portcullis audit input --all",
	}
}
