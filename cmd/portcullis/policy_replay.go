package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/spf13/cobra"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/eval"
	"github.com/portcullis-csi/portcullis/policies/replay"
)

// replayOptions are the flags of portcullis policy replay.
type replayOptions struct {
	inputs  string
	bundles []string
	socket  socketFlag
	file    string
	key     string
	verbose bool
	output  output
}

func replayCommand() *cobra.Command {
	var o replayOptions
	cmd := &cobra.Command{
		Use:   "replay [--socket PATH | --file DIR | --inputs FILE|- --bundle BUNDLE...]",
		Short: "Make recorded decisions again and compare",
		Long: `replay makes recorded decisions again, each by the bundle that decided and at the
time that it was made, and compares verdict, id, rules, grants and waivers. Whoever
doubts a log, a bundle or an engine can see that the same facts and the same policy
give the same decision.

  portcullis policy replay
  portcullis policy replay --file /mnt/evidence/audit
  portcullis policy replay --inputs decisions.ndjson --bundle bundle.tar.gz

Decisions, inputs and bundles come from the plugin that runs on this node, or with
--file from a log that is stopped or copied, which is verified on the way. With
--inputs they are a file of portcullis audit input --all, and --bundle names each
bundle that decided, as portcullis audit input --bundle DIGEST writes it.

What cannot be made again is said and counted by its cause: an input or a bundle that
is not kept any more, another version of Portcullis, or no verdict in the first place.
--verbose lists these too. A record that was made up with its input replays as well:
portcullis audit verify says whether a log was altered.

Exit code 0: all that could be made again are the same. 1: refused or failed, or none
could. 2: wrong usage. 3: a decision differs, or an input is not the one recorded.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return replayMain(cmd, o) },
	}
	o.socket.add(cmd)
	f := cmd.Flags()
	f.StringVar(&o.file, "file", "", "instead of --socket: the --state-dir/audit of a plugin that is stopped, or a copy of it, with audit-inputs beside it")
	f.StringVar(&o.key, "key", "", "with --file: public key of the node's log (default: node.vkey beside it)")
	f.StringVar(&o.inputs, "inputs", "", "instead of --socket: file of recorded decisions, one a line, - for the standard input")
	f.StringArrayVar(&o.bundles, "bundle", nil, "with --inputs: a bundle that decided, a directory or a tarball; may be repeated")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "also list decisions that could not be made again")
	addOutput(cmd, &o.output)
	completeBundle(cmd, "bundle")
	_ = cmd.MarkFlagFilename("inputs", "ndjson", "json")
	_ = cmd.MarkFlagDirname("file")
	return cmd
}

func (o replayOptions) check(cmd *cobra.Command) error {
	switch {
	case o.inputs != "" && (o.file != "" || cmd.Flags().Changed("socket")):
		return &usageError{errors.New("--inputs goes neither with --file nor with --socket")}
	case o.inputs != "" && len(o.bundles) == 0:
		return &usageError{errors.New("--inputs needs --bundle: the bundles that decided")}
	case o.inputs == "" && len(o.bundles) > 0:
		return &usageError{errors.New("--bundle is for --inputs: a log keeps the bundles that decided")}
	case o.key != "" && o.file == "":
		return &usageError{errors.New("--key is for --file")}
	}
	return refuseBoth(cmd, o.file)
}

func replayMain(cmd *cobra.Command, o replayOptions) (err error) {
	if err := o.check(cmd); err != nil {
		return err
	}
	records, bundles, closer, err := o.open(cmd)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closer()) }()
	r := replayReport{Listed: []replayed{}, verbose: o.verbose}
	counter := newProgress(cmd.ErrOrStderr(), "decisions made again:")
	done := int64(0)
	r.Report, err = replay.Replay(cmd.Context(), records, bundles, func(one replay.Result) error {
		done++
		counter.at(done, 0)
		r.list(one)
		return nil
	})
	if err != nil {
		return withHint(err)
	}
	if err := o.output.print(r, func(w io.Writer) { printReplay(w, &r) }); err != nil {
		return err
	}
	return r.answer()
}

// open returns where the records and the bundles are.
func (o replayOptions) open(cmd *cobra.Command) (iter.Seq2[policies.Recorded, error], replay.Bundles, func() error, error) {
	if o.inputs != "" {
		bundles, err := openBundles(o.bundles)
		if err != nil {
			return nil, nil, nil, err
		}
		from, closer, err := openInput(cmd, o.inputs)
		if err != nil {
			return nil, nil, nil, err
		}
		return eval.Records(from), bundles, closer, nil
	}
	source, err := (&inputOptions{socket: o.socket, file: o.file, key: o.key}).source()
	if err != nil {
		return nil, nil, nil, withHint(err)
	}
	return recordsOf(cmd.Context(), source), keptBundles(cmd.Context(), source), func() error { return nil }, nil
}

// errEnough ends a source of records that nobody reads on.
var errEnough = errors.New("enough")

func recordsOf(ctx context.Context, source recordedSource) iter.Seq2[policies.Recorded, error] {
	return func(yield func(policies.Recorded, error) bool) {
		err := source.Recorded(ctx, func(r policies.Recorded) error {
			if !yield(r, nil) {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			yield(policies.Recorded{}, err)
		}
	}
}

// answer turns a report into an exit code. That nothing could be made again is
// no answer.
func (r *replayReport) answer() error {
	switch {
	case !r.Agrees():
		return errAnswerIsNo
	case r.Outcomes[replay.Same] == 0:
		return &hintedError{
			fmt.Errorf("none of %d recorded decisions could be made again", r.Decisions),
			"--verbose names the cause of each; the oldest inputs go first, so take them from the log in time",
		}
	default:
		return nil
	}
}
